"""When and how a trial whose attempt ended in an error is tried again, and what its reason says of the cause."""

from __future__ import annotations

import re

PAUSES = (2.0, 8.0, 30.0)
"""Seconds from the first, second, third error of a trial to its next attempt; the last holds for all further errors.

What failed for want of something (a shared folder, a hub, memory) needs time, not another attempt at once."""

SAME_WORKER = 2.0
"""So many times as long waits the worker that failed it: another comes first, and the only one is not starved."""

_COUNTED = re.compile(r"^(attempt \d+ failed \(\d+ of \d+\)|\d+ attempts failed, the last with): ")


def tried_again(cause: str, attempt: int, errors: int, limit: int) -> str:
    """Say why an attempt ended, of a trial that is tried again."""
    return f"attempt {attempt} failed ({errors} of {limit}): {cause}"


def given_up(cause: str, errors: int) -> str:
    """Say why a trial failed whose attempts are used up."""
    return f"{errors} attempts failed, the last with: {cause}"


def cause_of(reason: str) -> str:
    """Return what such a sentence says of the cause alone, as its holder told it."""
    return _COUNTED.sub("", reason)
