"""A table of texts, for whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """The heads of its columns, and rows of as many cells."""

    heads: list[str]
    rows: list[list[str]]
