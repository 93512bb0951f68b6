"""The weight of a whole row: whether it is used, and how much its loss counts where the study names the column."""

from __future__ import annotations

from typing import Any

from hpo_service.errors import DataError
from hpo_service.training.data.reading.fields import kind_of
from hpo_service.training.data.reading.source import RawRow

# What different trainers call the weight of a whole row in the loss.
WEIGHTS = ("weight", "loss_weight", "sample_weight")
# Weights between which sums in float32 lose nothing that counts.
LEAST, MOST = 1e-6, 1e6


def counts(row: RawRow, column: str | None = None) -> bool:
    """Whether a row is used: no column says that its weight is 0.

    Args:
        row: as it was read, or with its columns called as formats call them.
        column: what the study names as `data.weight`, if anything.

    Raises:
        DataError: what stands in the named column is no weight, or in another column of weights is neither 1 nor 0.
    """
    used = all(_is_used(row, other) for other in WEIGHTS if other != column)
    return used and (column is None or weight_of(row, column) > 0)


def weight_of(row: RawRow, column: str) -> float:
    """The weight in the column that `data.weight` names; 1 where a row that is held out as such has none.

    Raises:
        DataError: it is missing, or not 0 or a number from `LEAST` to `MOST`.
    """
    value = row.fields.get(column)
    if value is None and row.part is not None:
        return 1.0
    weight = _number(value)
    if weight is None or not (weight == 0 or LEAST <= weight <= MOST):
        state = "is missing" if column not in row.fields else f"is {_shown(value)}"
        raise DataError(
            f"{row.origin}: column {column!r}, which data.weight names, {state}; a weight is 0 or a number from "
            f"{LEAST:g} to {MOST:g}"
        )
    return weight


def _number(value: Any) -> float | None:
    """A number, also as text, which is all that CSV has; None for anything else."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _shown(value: Any) -> str:
    return f"{value!r:.40}" if isinstance(value, int | float | str) else kind_of(value)


def _is_used(row: RawRow, column: str) -> bool:
    value = row.fields.get(column)
    try:
        weight = 1 if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return True  # no number, so another matter
    if weight not in (0, 1):
        raise DataError(
            f"{row.origin}: column {column!r} is {value}; a row counts (1) or is left out (0), and nothing between: "
            f"write data.weight: {column} to weigh rows by it, or rename the column if it means something else"
        )
    return weight == 1
