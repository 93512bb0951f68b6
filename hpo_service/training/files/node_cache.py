"""What a node makes once and keeps: by one process at a time, complete or not at all, in the user's cache folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

# Seconds between two looks at a lock that another process holds while it builds.
LOCK_POLL_SECONDS = 1.0

Progress = Callable[[str, float], None]
"""Receives what is being done and the fraction of it that is done, 0 to 1."""


def build_once(
    target: Path, progress: Progress, build: Callable[[Path], None], meanwhile: Callable[[], object] | None = None
) -> Path:
    """`target`, built first where it is missing: by one process, in a folder beside it, renamed when complete.

    Args:
        target: the folder that `build` fills.
        progress: told that another process is at work, while it is.
        build: fills an empty folder.
        meanwhile: called once if another process is found building, instead of only waiting for it.

    Raises:
        OSError: the cache cannot be written.
    """
    if target.exists():
        return target
    with locked(target, progress, meanwhile):
        if not target.exists():
            unfinished = target.with_name(f"{target.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            build(unfinished)
            unfinished.replace(target)
    return target


@contextmanager
def locked(target: Path, progress: Progress, meanwhile: Callable[[], object] | None = None) -> Iterator[None]:
    """The lock beside `target`, saying once a second that another process is at work while it is not free.

    Raises:
        OSError: the lock's file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f"{target.name}.lock"))
    pending = [] if meanwhile is None else [meanwhile]
    while True:
        try:
            lock.acquire(timeout=LOCK_POLL_SECONDS)
            break
        except Timeout:
            progress(f"waiting for another process that builds {target.name}", 0.0)
            while pending:
                pending.pop()()
    try:
        yield
    finally:
        lock.release()
