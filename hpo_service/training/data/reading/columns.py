"""Columns of a row under the names that formats give them: `data.columns` and `data.prompt_template`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hpo_service.domain.study.sections.data import DataSpec, placeholders
from hpo_service.errors import DataError
from hpo_service.training.data.reading.fields import kind_of
from hpo_service.training.data.reading.source import RawRow


def named(row: RawRow, spec: DataSpec) -> RawRow:
    """The row with its columns called as formats call them, and with the prompt that the study's template makes.

    What went into a prompt or has another name now is not there under its old one, but for the columns of groups and
    weights.

    Raises:
        DataError: a column that the template names is missing, or holds something else than text or a number.
    """
    if not spec.columns and spec.prompt_template is None:
        return row
    fields = {ours: row.fields[theirs] for ours, theirs in spec.columns.items() if theirs in row.fields}
    taken = {*spec.columns, *spec.columns.values()}
    if spec.prompt_template is not None:
        used = placeholders(spec.prompt_template)
        fields["prompt"] = spec.prompt_template.format_map({name: _filling(row, name) for name in used})
        taken |= {*used, "prompt"}
    kept = (spec.group, spec.weight)
    others = {name: value for name, value in row.fields.items() if name not in taken or name in kept}
    return replace(row, fields={**others, **fields}, names=spec.columns)


def check_names(row: RawRow, spec: DataSpec, required: set[str]) -> None:
    """Refuse a study whose `data.columns` names a column that its first row lacks, where rows need it.

    Raises:
        DataError: there is none; the message lists those that there are.
    """
    for ours, theirs in spec.columns.items():
        if ours in required and theirs not in row.fields:
            there = ", ".join(row.fields) or "(none)"
            raise DataError(
                f"{row.origin}: there is no column {theirs!r}, which data.columns calls {ours}; there are {there}"
            )


def _filling(row: RawRow, column: str) -> str:
    value: Any = row.fields.get(column)
    if isinstance(value, str | int | float):
        return str(value)
    there = ", ".join(row.fields) or "(none)"
    state = f"is missing (there are {there})" if column not in row.fields else f"must be text, not {kind_of(value)}"
    raise DataError(f"{row.origin}: column {column!r}, which data.prompt_template names, {state}")
