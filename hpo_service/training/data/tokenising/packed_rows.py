"""All rows of a study, understood, as bytes on disk with what the split goes by in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from hpo_service.domain.study.sections.data import DataSpec, HeldOut
from hpo_service.errors import DataError
from hpo_service.training.data.formats import format_of
from hpo_service.training.data.reading.columns import named
from hpo_service.training.data.reading.example import Example
from hpo_service.training.data.reading.source import Place, local_files, places, read_rows
from hpo_service.training.data.reading.weight import counts
from hpo_service.training.data.split import Keys
from hpo_service.training.data.tokenising.cores import Cores
from hpo_service.training.data.tokenising.spool import Spool
from hpo_service.training.data.tokenising.work import Work, unpacked


class PackedRows:
    """The rows of a study that count, numbered in the order in which they were read.

    Attributes:
        read: rows that were read, those with the weight 0 among them.
        keys: what the split goes by, with each row's number, by the held-out part that it is for.
        unused: how many rows fill each column that is not read.
    """

    def __init__(self, folder: Path | None) -> None:
        self.read = 0
        self.keys: dict[HeldOut | None, list[tuple[Keys, int]]] = {}
        self.unused: Counter[str] = Counter()
        self._spool = Spool(folder)
        self._ends = [0]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, spec: DataSpec, cores: Cores, touch: Callable[[float], None]) -> None:
        """Read and understand all rows of a study.

        Raises:
            DataError: they cannot be read, or a row does not fit; the message names file, row or column.
            OSError: the disk is full.
        """
        every = places(spec)
        size = sum(map(_size, every))
        for place in every:
            keys = self.keys.setdefault(place.part, [])
            before = len(self)
            for batch in cores.map(Work.understand, read_rows(place)):
                self.read += batch.read
                self.unused += batch.unused
                for each, packed in zip(batch.keys, batch.packed, strict=True):
                    keys.append((each, len(self)))
                    self._spool.add(packed)
                    self._ends.append(self._spool.size)
                # about: rows packed are about as large as rows written, unless their files are compressed
                touch(min(self._spool.size / size, 1.0) if size else 0.0)
            if len(self) == before:
                raise DataError(f"{place.source}: every row has the weight 0, so there is nothing to learn")

    def packed(self, numbers: Sequence[int]) -> Iterator[bytes]:
        """The rows of these numbers, as they were packed."""
        data, ends = self._spool.array(np.uint8), self._ends
        return (data[ends[number] : ends[number + 1]].tobytes() for number in numbers)

    def example(self, number: int) -> Example:
        """The row of this number."""
        return unpacked(next(self.packed([number])))


def format_of_rows(spec: DataSpec) -> str:
    """The format of a study's rows, told by the first that counts.

    Raises:
        DataError: no format fits, or no row counts.
    """
    for place in places(spec):
        first = next((row for row in read_rows(place) if counts(row, spec.weight)), None)
        if first is None:
            break
        return format_of(named(first, spec), first, spec)
    raise DataError(f"{spec.called}: every row has the weight 0, so there is nothing to learn")


def _size(place: Place) -> int:
    return sum(path.stat().st_size for path in local_files(place.source, place.part) or ())
