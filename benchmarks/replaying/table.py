"""Tables of runs that were made once: which kind one is, by its columns, and what replaying it tells."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = Mapping[str, str]


class UnreadableTableError(Exception):
    """A table cannot be replayed; the message names it, what is missing and what helps."""


@dataclass(frozen=True)
class Table:
    """A table as it is written.

    Attributes:
        name: what it is called in figures: its file's name.
        columns: in their order.
        rows: one a run, or one a configuration.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Row]


@dataclass
class Told:
    """What came of replaying tables.

    Attributes:
        text: tables for people.
        figures: the same for machines, one a row.
        wrong: what was asked for and is not met.
    """

    text: list[str] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Told) -> None:
        """Take over what came of another table."""
        self.text += other.text
        self.figures += other.figures
        self.wrong += other.wrong


@dataclass(frozen=True)
class Kind:
    """What can be done with tables that have certain columns.

    Attributes:
        name: what such a table is called.
        columns: those it is known by, in words.
        knows: tells from the columns whether a table is of this kind.
        replay: replays one such table as the options of the command line say.
    """

    name: str
    columns: str
    knows: Callable[[Sequence[str]], bool]
    replay: Callable[[Table, argparse.Namespace], Told]


def read_table(path: Path) -> Table:
    """Read a CSV file with a heading.

    Raises:
        UnreadableTableError: there is no such file, or nothing in it.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableTableError(f"{path}: cannot be read ({error}); give the path of a CSV file") from error
    if not rows:
        raise UnreadableTableError(f"{path}: has no rows; give a CSV file with a heading and a run in each row")
    return Table(path.name, list(reader.fieldnames or ()), rows)


def kinds_of(table: Table, kinds: Sequence[Kind]) -> list[Kind]:
    """Tell which kinds a table is of: all that know its columns.

    Raises:
        UnreadableTableError: none does.
    """
    knowing = [kind for kind in kinds if kind.knows(table.columns)]
    if knowing:
        return knowing
    known = "; ".join(f"{kind.name}: {kind.columns}" for kind in kinds)
    found = ", ".join(table.columns)
    raise UnreadableTableError(
        f"{table.name}: its columns are of no kind that is replayed ({found}). Known are {known}"
    )
