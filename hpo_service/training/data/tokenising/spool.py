"""Bytes that are written once, one after the other, and then read in any order: on disk, so that memory stays flat."""

from __future__ import annotations

import tempfile
import weakref
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt


class Spool:
    """Bytes in an unnamed file of a folder, which goes when they are no longer used; in memory without a folder."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = BytesIO() if folder is None else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        if folder is not None:
            weakref.finalize(self, self._file.close)
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """Write bytes behind those that there are.

        Raises:
            OSError: the disk is full.
        """
        self.size += self._file.write(data)

    def array(self, kind: npt.DTypeLike) -> npt.NDArray[Any]:
        """All of it as an array of this kind; writing to the array changes nothing on disk."""
        if not self.size:
            return np.zeros(0, dtype=kind)
        if isinstance(self._file, BytesIO):
            return np.frombuffer(self._file.getbuffer(), dtype=kind)
        self._file.flush()
        # copy on write: torch wants arrays that may be written to
        mapped: npt.NDArray[Any] = np.memmap(self._file, dtype=kind, mode="c")
        return mapped.view(np.ndarray)
