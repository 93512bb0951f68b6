"""Fields of a row, checked: what is missing or of another kind is named with its row and column."""

from __future__ import annotations

from typing import Any

from hpo_service.errors import DataError
from hpo_service.training.data.reading.source import RawRow


def text_of(row: RawRow, column: str, default: str | None = None) -> str:
    """The text in a column, or `default` where there is none.

    Raises:
        DataError: it is missing without a default, or no text.
    """
    value = row.fields.get(column, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        state = "is missing" if column not in row.fields else f"must be text, not {kind_of(value)}"
        raise DataError(f"{row.origin}: column {row.called(column)} {state}")
    return value


def mask_of(row: RawRow, column: str, length: int) -> list[int] | None:
    """A 1 or 0 for each of `length` tokens; None where there is no such column.

    Raises:
        DataError: it is something else.
    """
    if row.fields.get(column) is None:
        return None
    mask = row.fields[column]
    if not isinstance(mask, list) or len(mask) != length or any(each not in (0, 1) for each in mask):
        raise DataError(
            f"{row.origin}: column {row.called(column)} must have a 1 or 0 for each of {length} in 'input_ids'"
        )
    return [int(each) for each in mask]


def whole_numbers(row: RawRow, column: str) -> list[int]:
    """The list of whole numbers in a column.

    Raises:
        DataError: it is missing, or something else.
    """
    numbers = row.fields.get(column)
    if not isinstance(numbers, list):
        raise DataError(
            f"{row.origin}: column {row.called(column)} must be a list of whole numbers, not {kind_of(numbers)}"
        )
    for place, number in enumerate(numbers, start=1):
        if type(number) is not int:
            raise DataError(
                f"{row.origin}: column {row.called(column)}, number {place} must be a whole number, not {number!r:.40}"
            )
    return numbers


def filled(row: RawRow, column: str) -> str:
    """The text in a column, which must not be empty.

    Raises:
        DataError: it is missing, empty, or no text.
    """
    text = text_of(row, column)
    if not text.strip():
        raise DataError(f"{row.origin}: column {row.called(column)} is empty, so there is nothing to learn")
    return text


def kind_of(value: Any) -> str:
    """What a value is, for messages: `nothing`, `a int`."""
    return "nothing" if value is None else f"a {type(value).__name__}"
