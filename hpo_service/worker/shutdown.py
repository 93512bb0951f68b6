"""Why a worker is to leave, and how patient it may be: the first signal drains, the second or a deadline aborts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from hpo_service.wire.exit_status import signal_name

REQUEST = signal.SIGUSR1
"""Asks for the same, and never for more: however often it comes, it does not abort."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A terminal that closes, or a scheduler that hangs up, asks for the same as SIGTERM."""


class ShutdownSignals:
    """Catches this process's signals while it is entered.

    Attributes:
        reason: why the worker is to leave; empty while it is not.
        out_of_time: whether that is because its time is up.
    """

    def __init__(self, clock: Callable[[], float], drain_seconds: float) -> None:
        self.reason = ""
        self._clock, self._drain_seconds = clock, drain_seconds
        self.out_of_time = False
        self._signals = 0
        self._requested = False
        self._deadline: float | None = None

    def __enter__(self) -> ShutdownSignals:
        # whoever started this under nohup meant it to stay
        heard = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._on_signal) for number in [*heard, REQUEST]}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def ask(self, reason: str) -> None:
        """Ask the worker to leave when its trials allow; the first reason stands."""
        self.reason = self.reason or reason

    def time_is_up(self, reason: str) -> None:
        """Ask the worker to save and leave at once, because it may not stay."""
        self.out_of_time = self.out_of_time or not self.reason
        self._requested = True
        self.ask(reason)

    def begin(self) -> bool:
        """Start the deadline at the first signal; tell whether it was started just now."""
        if not (self._signals or self._requested) or self._deadline is not None:
            return False
        self._deadline = self._clock() + self._drain_seconds
        return True

    @property
    def at_once(self) -> bool:
        """Whether patience is over: a second signal came, or the deadline has passed."""
        return self._signals > 1 or (self._deadline is not None and self._clock() > self._deadline)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == REQUEST:
            self._requested = True
        else:
            self._signals += 1
        self.ask(f"the worker received {signal_name(number)}")
