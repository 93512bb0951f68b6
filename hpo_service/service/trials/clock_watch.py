"""Telling that the database's clock jumped forward, so that leases that look over are not over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

JUMP_SECONDS = 2.0
"""How much further the database's clock may go than this process's own between two looks."""
LEASES_TO_WAIT = 0.5
"""Leases that workers are given to renew after a jump; they do so four times in each."""


@dataclass
class ClockWatch:
    """Compares the database's clock with this process's, which nobody sets, and which sleeps with its machine."""

    clock: Callable[[], float] = time.monotonic
    _last: tuple[float, float] | None = field(default=None, repr=False)
    _until: float = field(default=0.0, repr=False)

    def has_jumped(self, now: float, lease_seconds: float) -> bool:
        """Whether the database's time `now` is further on than has passed here, since the last look or not long ago.

        Args:
            now: seconds by the database's clock.
            lease_seconds: the longest lease that workers may have to renew.
        """
        here = self.clock()
        if self._last is not None:
            theirs, ours = now - self._last[0], here - self._last[1]
            if theirs - ours > JUMP_SECONDS:
                self._until = here + LEASES_TO_WAIT * lease_seconds
        self._last = (now, here)
        return here < self._until
