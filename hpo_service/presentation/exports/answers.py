"""Answers to questions in SQL as text, CSV, JSON or Parquet, row by row where the format allows it."""

from __future__ import annotations

import csv
import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from hpo_service.presentation.exports.columns import alike, pyarrow_for
from hpo_service.storage.querying.answer import Answer, Value

TABLE_ROWS = 200
"""Rows of a table for people where no number is asked for."""

Write = Callable[[Answer, TextIO], None]


def limited(answer: Answer, limit: int | None, cut: Callable[[int], object]) -> Answer:
    """Return the answer with at most so many rows; `cut` is told the number where there were more."""

    def rows() -> Iterator[tuple[Value, ...]]:
        yield from islice(answer.rows, limit)
        if limit is not None and next(answer.rows, None) is not None:
            cut(limit)

    return Answer(answer.columns, rows())


def write_table(answer: Answer, out: TextIO) -> None:
    """Write columns that line up; held in memory, so for answers with a limit."""
    rows = [list(map(_cell, row)) for row in answer.rows]
    widths = [max(map(len, column)) for column in zip(answer.columns, *rows, strict=True)]
    for row in (answer.columns, ["-" * width for width in widths], *rows):
        out.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def write_csv(answer: Answer, out: TextIO) -> None:
    """Write a row of names and the rows; null is an empty field."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(answer.rows)


def write_json(answer: Answer, out: TextIO) -> None:
    """Write a list of objects; numbers that JSON has no form for are null."""
    mark = "["
    for row in answer.rows:
        values = {name: _finite(value) for name, value in zip(answer.columns, row, strict=True)}
        out.write(f"{mark}\n{json.dumps(values, ensure_ascii=False)}")
        mark = ","
    out.write("\n]\n" if mark == "," else "[]\n")


def write_parquet(answer: Answer, path: Path) -> None:
    """Write a Parquet file; the answer is held in memory, since a column's kind is known at its end.

    Raises:
        UsageError: pyarrow is not installed.
    """
    parquet, table = pyarrow_for(path)
    columns: Iterable[Iterable[Value]] = zip(*answer.rows, strict=True)
    read: list[list[Any]] = [alike(list(column)) for column in columns] or [[] for _ in answer.columns]
    parquet.write_table(table(dict(zip(answer.columns, read, strict=True))), path)


TEXTS: Mapping[str, Write] = {"table": write_table, "csv": write_csv, "json": write_json}
"""Formats that are text, by name; Parquet is a file."""


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    # what moves a terminal's cursor or colours it is no part of a table
    return "".join(c if unicodedata.category(c)[0] != "C" else " " for c in str(value))


def _finite(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value
