"""How often somebody may be wrong about a secret: per address, and all together."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_SECONDS = 60.0
PER_ADDRESS = 10
"""Wrong attempts from one address within the window; then it waits."""
OVERALL = 100
"""Wrong attempts from all addresses together."""
MOST_ADDRESSES = 10_000
"""Addresses that are remembered; then the one that was wrong longest ago is forgotten."""


@dataclass
class Throttle:
    """Counts wrong attempts; may be used by many threads."""

    clock: Callable[[], float] = time.monotonic
    _overall: deque[float] = field(default_factory=deque)
    _by_address: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, address: str) -> int:
        """Return for how many seconds an address must wait before its next attempt; 0 where it need not."""
        with self._lock:
            now = self.clock()
            mine = self._by_address.get(address, deque())
            return max(_wait(mine, PER_ADDRESS, now), _wait(self._overall, OVERALL, now))

    def wrong(self, address: str) -> None:
        """Note a wrong attempt."""
        with self._lock:
            now = self.clock()
            mine = self._by_address.setdefault(address, deque(maxlen=PER_ADDRESS))
            self._by_address.move_to_end(address)
            mine.append(now)
            self._overall.append(now)
            while len(self._overall) > OVERALL:
                self._overall.popleft()
            while len(self._by_address) > MOST_ADDRESSES:
                self._by_address.popitem(last=False)


def _wait(attempts: deque[float], most: int, now: float) -> int:
    recent = [moment for moment in attempts if now - moment < WINDOW_SECONDS]
    return math.ceil(recent[-most] + WINDOW_SECONDS - now) if len(recent) >= most else 0
