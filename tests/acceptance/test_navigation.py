"""The documentation's navigation has every page exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
NAVIGATION = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def pages(entry) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    for each in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from pages(each)


def test_every_page_is_there_exactly_once():
    there = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))
    assert sorted(pages(NAVIGATION)) == there


def test_a_newcomer_finds_first_what_is_needed_first():
    heads = [name for entry in NAVIGATION if isinstance(entry, dict) for name in entry]
    assert heads[:3] == ["Get started", "Your own data", "Study file"]
    assert heads[-2:] == ["Operations", "Internals"]
