"""The answer to a question: names of columns, and rows as they come, alike on every database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeAlias

Value: TypeAlias = bool | int | float | str | None

AT_ONCE = 1000
"""Rows that are fetched together."""


@dataclass(frozen=True)
class Answer:
    """Columns by name, each name once, and the rows, which are read from the database while one goes through them.

    Times are text in UTC, JSON and arrays are JSON text, bytes are hexadecimal digits.
    """

    columns: list[str]
    rows: Iterator[tuple[Value, ...]]


def distinct(names: Iterable[str]) -> list[str]:
    """Return the names, a repeated one with a number after it."""
    taken: list[str] = []
    for name in names:
        other, count = name, 1
        while other in taken:
            count += 1
            other = f"{name}_{count}"
        taken.append(other)
    return taken


def plain_row(row: Sequence[Any]) -> tuple[Value, ...]:
    """Return the row in values that every database and every format has."""
    return tuple(_plain(value) for value in row)


def _plain(value: Any) -> Value:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if whole else float(value)
    if isinstance(value, datetime):
        utc = value.astimezone(UTC) if value.tzinfo else value
        return utc.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
