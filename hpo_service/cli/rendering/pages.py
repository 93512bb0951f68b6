"""What a study file will do, what its data are like, and what it needs of a GPU: lines and tables, drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from hpo_service.domain.study.data_report import DataReport
from hpo_service.domain.study.spec import StudySpec
from hpo_service.presentation.data_report import about_data, parts_table
from hpo_service.presentation.sizing.memory import LARGEST, memory_tables
from hpo_service.presentation.study_summary import study_summary
from hpo_service.presentation.text_table import TextTable
from hpo_service.service.studies.memory import ModelMemory


def summary_page(spec: StudySpec) -> Table:
    """Lay out what a study will do."""
    return _lines(f"study {spec.name}", study_summary(spec))


def data_tables(found: DataReport) -> list[Table]:
    """Lay out a data report: what was found in all, and a row for each part."""
    shown = parts_table(found)
    parts = Table(*shown.heads, title="in each part, lengths before the cut", title_justify="left")
    for column in parts.columns[1:]:
        column.justify = "right"
    for row in shown.rows:
        parts.add_row(*row)
    return [_lines(f"data of {found.source}", about_data(found)), parts]


def memory_page(models: Sequence[ModelMemory], sizes: Sequence[float]) -> Table:
    """Lay out the parts, totals and micro-batches of each model, in columns."""
    blocks = memory_tables(models, sizes)
    table = Table(*blocks[0].heads, box=box.SIMPLE, header_style="bold")
    for column in table.columns[1:]:
        column.justify, column.overflow = "right", "fold"
    for block in blocks:
        table.add_section()
        for row in block.rows:
            table.add_row(*row, style="bold" if row[0] == LARGEST else None)
    return table


def text_table(shown: TextTable, *, right: bool = True) -> Table:
    """Lay out a table of texts; with `right` all columns but the first stand to the right, as numbers do."""
    table = Table(*shown.heads, box=box.SIMPLE, header_style="bold")
    for column in table.columns[1:]:
        column.justify, column.overflow = "right" if right else "left", "fold"
    for row in shown.rows:
        table.add_row(*map(escape, row))
    return table


def _lines(title: str, lines: Iterable[tuple[str, str]]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in lines:
        table.add_row(label, text)
    return table
