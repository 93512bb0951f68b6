"""One trial on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from hpo_service.domain.trial.endings import STYLES
from hpo_service.presentation.text_table import TextTable
from hpo_service.presentation.trial_text import (
    about_trial,
    attempts_table,
    curve_table,
    fact_lines,
    file_lines,
    sparkline,
    trial_name,
)
from hpo_service.service.studies.trial_record import TrialRecord


def trial_parts(record: TrialRecord, folders: Sequence[Path]) -> list[RenderableType]:
    """Return everything about a trial, part by part."""
    parts: list[RenderableType] = [_head(record)]
    if record.trial.curve:
        curve = curve_table(record)
        bars = Text(sparkline([report.value for report in record.trial.curve]))
        parts += [_heading("curve"), bars, _table(curve, right=range(len(curve.heads)))]
    parts += [_heading("attempts"), _table(attempts_table(record), right=(0, 2))]
    if record.trial.facts.flat():
        parts += [_heading("facts"), _grid(fact_lines(record))]
    files = list(file_lines(record, folders))
    # as lines of their own: a path must be whole to be of use
    return [*parts, _heading("files"), *(Text(file) for file in files)] if files else parts


def _head(record: TrialRecord) -> Table:
    state = record.trial.state
    table = Table.grid()
    table.add_row(Text.assemble((trial_name(record), "bold"), "  ", (str(state), STYLES[state])))
    table.add_row(_grid(about_trial(record)))
    return table


def _grid(lines: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(Column(style="dim", no_wrap=True), Column(no_wrap=False), padding=(0, 2, 0, 0))
    for label, text in lines:
        grid.add_row(label, Text(text))
    return grid


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _table(shown: TextTable, right: Iterable[int]) -> Table:
    """Draw a table; the columns of numbers, at the places `right`, are never broken into lines."""
    numbers = set(right)
    columns = [
        Column(head, justify="right", no_wrap=True) if place in numbers else Column(head)
        for place, head in enumerate(shown.heads)
    ]
    table = Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for row in shown.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
