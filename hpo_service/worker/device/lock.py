"""One worker to a GPU, unless each was told its share of it: two by mistake would each plan with all of its memory.

A lock on a file of the machine's temporary folder says so; the system lets go of it when its holder ends, however.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hpo_service.errors import UnfitWorkerError

NAME_BYTES = 200
"""Of a lock's file, what is read of its holder's name."""

log = logging.getLogger(__name__)


class DeviceLock:
    """The GPUs that a worker holds, until it ends."""

    def __init__(self, worker: str, folder: Path | None = None, *, shared: bool = False) -> None:
        """Hold none yet.

        Args:
            worker: its id, by which others name it.
            folder: where locks lie; the machine's temporary folder by default.
            shared: this worker was told its share of each GPU: it bears others that were told theirs.
        """
        self._worker, self._shared = worker, shared
        self._folder = folder or Path(tempfile.gettempdir())
        self._files: list[int] = []

    def take(self, gpus: Mapping[str, str]) -> None:
        """Take GPUs; where no lock can be had it is said, and that is all.

        Args:
            gpus: by the name that each has for ever, what people call it.

        Raises:
            UnfitWorkerError: another worker has one of them.
        """
        for gpu, called in gpus.items():
            path = self._folder / f"hpo-service-{gpu}.lock"
            try:
                file = _open(path)
            except OSError as error:
                log.warning("no lock can be taken at %s (%s): see that one worker uses the GPU", path, error.strerror)
                continue
            self._files.append(file)
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._taken(called, os.pread(file, NAME_BYTES, 0)) from None
            with suppress(OSError):
                os.ftruncate(file, 0)
                os.pwrite(file, self._worker.encode(), 0)

    def release(self) -> None:
        """Let go of all."""
        while self._files:
            os.close(self._files.pop())

    def _taken(self, gpu: str, name: bytes) -> UnfitWorkerError:
        self.release()
        other = name.decode("utf-8", "replace") or "of another user"
        return UnfitWorkerError(
            f"worker {other} has {gpu} already: end one of the two, give this one another GPU with "
            "CUDA_VISIBLE_DEVICES, or tell both their share of its memory with HPO_SERVICE_MEMORY_GB"
        )


def _open(path: Path) -> int:
    """Open the file of a lock, made where it is missing so that every user of the machine may."""
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with suppress(OSError):
        os.fchmod(file, 0o666)
    return file
