"""How a process ended, in words."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """The signal's name, e.g. `SIGTERM`; `signal 40` where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def how_it_ended(code: int) -> str:
    """Continue a sentence about a process that returned `code`, negative where a signal ended it."""
    return f"ended with status {code}" if code >= 0 else f"was killed by {signal_name(-code)}"
