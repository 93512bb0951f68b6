"""Labelled points at which the attack suite kills a real process; they cost one dictionary look-up otherwise."""

from __future__ import annotations

import os
import signal

LABELS = (
    "claim.sampled",
    "claim.taken",
    "claim.reserved",
    "claim.bound",
    "claim.committed",
    "child.admitted",
    "report.held",
    "report.recorded",
    "report.committed",
    "renew.committed",
    "checkpoint.written",
    "filestore.parts",
    "filestore.manifest",
    "finish.held",
    "finish.told",
    "finish.committed",
    "stage.planned",
    "stage.opened",
)
"""Every label, in the order a trial meets them."""


def _armed() -> dict[str, int]:
    """Read `HPO_SERVICE_FAILPOINT=label[:visit]`: the process dies at that visit (default: the first).

    Raises:
        ValueError: it names no label, or no visit: an attack that never happens would prove nothing.
    """
    wish = os.environ.get("HPO_SERVICE_FAILPOINT", "")
    label, _, visit = wish.partition(":")
    if not label:
        return {}
    if label not in LABELS or not (visit or "1").isdecimal() or int(visit or 1) < 1:
        raise ValueError(f"HPO_SERVICE_FAILPOINT={wish} is not LABEL or LABEL:VISIT with one of {', '.join(LABELS)}")
    return {label: int(visit or 1)}


_remaining = _armed()


def reach(label: str) -> None:
    """Say that this point is reached; kill this process by SIGKILL if the environment asked for it."""
    if label in _remaining:
        _remaining[label] -= 1
        if _remaining[label] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
