"""Logs that do not grow for ever: the head and the tail of each are kept, and of many logs the latest."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

LIMIT_BYTES = 32 << 20
"""A log that is longer is cut."""
HEAD_BYTES = 1 << 20
"""How much of its beginning stays."""
TAIL_BYTES = 8 << 20
"""How much of its end stays."""
KEPT_LOGS = 1000
"""Logs of workers that stay, the latest; older ones go, and so do those that are older than `KEPT_SECONDS`."""
KEPT_SECONDS = 7 * 86400.0
SPARED_SECONDS = 7200.0
"""A log that is no older may be that of a living worker, which touches it every hour."""

log = logging.getLogger(__name__)


class LogTail:
    """What is written to a log from now on, a line at a time."""

    def __init__(self, path: Path) -> None:
        self._path, self._rest = path, b""
        self._read = self._size()

    def lines(self) -> list[str]:
        """Return the whole lines that were written since the last call; of a log that was cut, those written after."""
        size = self._size()
        if size <= self._read:
            self._rest = self._rest if size == self._read else b""
            self._read = size
            return []
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._read)
            written = self._rest + file.read(size - self._read)
            self._read = size
            *whole, self._rest = written.split(b"\n")
            return [line.decode("utf-8", "replace") for line in whole]
        return []

    def _size(self) -> int:
        with contextlib.suppress(OSError):
            return self._path.stat().st_size
        return 0


def cut(path: Path) -> bool:
    """Shorten a log that has become too long to its head and its tail, with a line about what is missing in between.

    Whoever writes to it must have opened it to append, and goes on behind the tail; what is written while it is being
    cut is lost. A log that cannot be cut stays as it is.

    Returns:
        Whether it was cut.
    """
    try:
        size = path.stat().st_size
        if size <= LIMIT_BYTES:
            return False
        with path.open("r+b") as file:
            file.seek(HEAD_BYTES)
            before = re.match(rb"\n\[(\d+) bytes are missing here[^\n]*\n", file.read(200))
            missing = size - HEAD_BYTES - TAIL_BYTES + (int(before[1]) - before.end() if before else 0)
            file.seek(size - TAIL_BYTES)
            tail = file.read(TAIL_BYTES)
            file.truncate(HEAD_BYTES)
        with path.open("ab") as file:
            note = f"\n[{missing} bytes are missing here: the log had become too long]\n"
            file.write(note.encode() + tail.partition(b"\n")[2])
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("%s has become too long and cannot be cut: %s", path, error)
        return False


def prune(folder: Path, pattern: str, clock: Callable[[], float] = time.time) -> int:
    """Remove the logs of this pattern that nobody needs any more, and count them."""
    ages: list[tuple[float, Path]] = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            ages.append((clock() - path.stat().st_mtime, path))
    ages.sort()
    needless = [path for place, (age, path) in enumerate(ages) if age > _limit(place)]
    for path in needless:
        with contextlib.suppress(OSError):
            path.unlink()
    return len(needless)


def _limit(place: int) -> float:
    return KEPT_SECONDS if place < KEPT_LOGS else SPARED_SECONDS
