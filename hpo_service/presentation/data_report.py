"""What a data report says, line by line: about the rows in all, and about each part."""

from __future__ import annotations

from collections.abc import Callable

from hpo_service.domain.study.data_report import DataReport, PartReport
from hpo_service.presentation.text_table import TextTable


def about_data(found: DataReport) -> list[tuple[str, str]]:
    """Say what was found in all, each line with what it is about."""
    rows = f"{found.rows_read} read" + (f", {found.rows_split} used" if found.rows_split < found.rows_read else "")
    return [
        ("format", f"{found.format}; the loss is taken on {'all tokens' if found.learn == 'all' else 'completions'}"),
        ("rows", rows),
        ("leaks", f"{found.leaked} held-out rows removed that stand in another part"),
        ("duplicates", f"{found.duplicates} among training rows, kept; {found.repeated} held-out ones removed"),
        ("longest row", f"{found.whole.longest} tokens: {found.longest_row}"),
        ("padding", f"{found.padding_share:.0%} of a training batch of 8 random rows"),
        ("fingerprint", found.fingerprint),
    ]


def parts_table(found: DataReport) -> TextTable:
    """Measure each part of the rows, and all of them."""
    columns = {**found.parts, "all": found.whole}
    return TextTable(
        ["rows and tokens", *columns],
        [
            [label, *(value(part) for part in columns.values())]
            for label, value in MEASURES.items()
            if label != "groups" or found.whole.groups is not None
        ],
    )


MEASURES: dict[str, Callable[[PartReport], str]] = {
    "rows": lambda part: f"{part.rows:,}",
    "groups": lambda part: f"{part.groups or 0:,}",
    "tokens of a row: half have at most": lambda part: f"{part.p50:,}",
    "90% have at most": lambda part: f"{part.p90:,}",
    "99% have at most": lambda part: f"{part.p99:,}",
    "the longest has": lambda part: f"{part.longest:,}",
    "rows cut": lambda part: f"{part.truncated_share:.1%}",
    "rows with nothing to learn": lambda part: f"{part.unsupervised_share:.1%}",
    "tokens in all": lambda part: f"{part.tokens:,}",
    "tokens learned": lambda part: f"{part.supervised_tokens:,}",
}
"""What is said of each part, in this order."""
