"""Columns of tables: values of one kind each, as Parquet needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo_service.errors import UsageError


def columns_of(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn rows into columns; one that holds values of unlike kinds becomes text."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: alike([record.get(name) for record in records]) for name in names}


def alike(values: list[Any]) -> list[Any]:
    """Return the values as they are, whole numbers among others as numbers; as text where they are of unlike kinds."""
    kinds = {"number" if type(v) in (int, float) else type(v).__name__ for v in values if v is not None}
    if len(kinds) <= 1 and not kinds & {"list", "dict"}:
        numbers = any(isinstance(value, float) for value in values)
        return [float(v) if numbers and v is not None else v for v in values]
    return [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]


def pyarrow_for(path: Path) -> tuple[Any, Any]:
    """Return what writes Parquet files, and what makes tables for it.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet, table
    except ImportError:
        remedy = "`pip install pyarrow`, or --format csv"
        raise UsageError(f"{path.name} cannot be written, pyarrow is not installed: {remedy}") from None
    return parquet, table
