"""The page about memory holds the present estimates, and each is close to its public figure or says why not."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("memory_table", ROOT / "docs" / "memory_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["memory_table"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["memory_table"]


def test_the_tables_are_up_to_date(program, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["memory_table.py", "--check"])
    assert program.main() == 0, "run docs/memory_table.py"


def test_every_public_figure_is_met_within_a_quarter_or_explained(program):
    assert program.unexplained() == []
    rows = [row for _, table in program.TABLES for row in table()]
    assert len(rows) == 24
    assert sum(abs(row.off) <= 0.25 for row in rows) == 22
