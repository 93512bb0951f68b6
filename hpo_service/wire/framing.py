"""One JSON document a line: how messages and reports are written to a stream and read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

SHOWN_BYTES = 200
"""How much of a line that cannot be read is shown to people."""

T = TypeVar("T")


@dataclass(frozen=True)
class BadLine:
    """A line that is none of the documents expected: its beginning, and what is wrong with it."""

    beginning: bytes
    problem: str


def write_line(stream: IO[bytes], document: BaseModel) -> None:
    """Write a document and see to it that it leaves this process; raises what the stream does."""
    stream.write(document.model_dump_json().encode() + b"\n")
    stream.flush()


def read_lines(stream: IO[bytes], expected: TypeAdapter[T]) -> Iterator[T | BadLine]:
    """Yield what each line holds, as it comes, until the stream ends."""
    for line in stream:
        try:
            yield expected.validate_json(line)
        except ValidationError as error:
            yield BadLine(line[:SHOWN_BYTES], error.errors()[0]["msg"])
