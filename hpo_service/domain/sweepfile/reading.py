"""A mapping of a sweep file that is read key by key: what nobody asked for is left over, and is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpo_service.domain.studyfile.document import Document, KeyPath, dotted, refuse
from hpo_service.errors import StudyFileError


@dataclass(frozen=True)
class Remark:
    """A key of the sweep file, and what became of it where that is not the same as it was."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        """Give line, key and message."""
        return f"{self.line}: {self.key}: {self.message}"


@dataclass(frozen=True)
class Reading:
    """One mapping of the file, with the remarks of the whole file."""

    document: Document
    path: KeyPath
    data: Mapping[str, Any]
    file: str
    remarks: list[Remark]
    asked: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, document: Document, file: str) -> Reading:
        """Begin at the top of a file."""
        return cls(document, (), document.data, file, [])

    def take(self, key: str, default: Any = None) -> Any:
        """Return what stands at a key, which is answered for now."""
        self.asked.add(key)
        return self.data.get(key, default)

    def number(self, key: str, default: float | None = None) -> float:
        """Return the number at a key.

        Raises:
            StudyFileError: there is none.
        """
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(
                "needs a number" if key in self.data else f"misses {key}", *([key] if key in self.data else [])
            )
        return value

    def inner(self, key: str) -> Reading | None:
        """Return the mapping at a key; None where there is none.

        Raises:
            StudyFileError: it is something else.
        """
        found = self.take(key)
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise self.wrong("must be a mapping of keys to values", key)
        return Reading(self.document, (*self.path, key), found, self.file, self.remarks)

    def remark(self, message: str, *key: str) -> None:
        """Note what became of this mapping, or of one of its keys."""
        complaint = self.document.complaint((*self.path, *key), message)
        self.remarks.append(Remark(complaint.line, dotted((*self.path, *key)), message))

    def wrong(self, message: str, *key: str) -> StudyFileError:
        """Return the error that something cannot be read."""
        return refuse(self.file, [self.document.complaint((*self.path, *key), message)])

    def name_the_rest(self, reason: str = "has no counterpart and is left out") -> None:
        """Note every key that nobody asked for."""
        for key in self.data:
            if key not in self.asked:
                self.remark(reason, str(key))
