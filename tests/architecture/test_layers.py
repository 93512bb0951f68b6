"""The layers in pyproject.toml hold, and the names and sizes of files stay as agreed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "hpo_service").rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
LONGEST_FILE = 400


def test_every_import_contract_is_kept() -> None:
    # In a process of its own: the linter sets logging up anew and would silence every logger there is.
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_named_after_nothing_in_particular() -> None:
    vague = [path for path in SOURCES if {path.stem, path.parent.name} & FORBIDDEN_NAMES]
    assert vague == []


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


@pytest.mark.parametrize("room", ["cli", "web", "presentation", "bootstrap.py"])
def test_transactions_are_opened_by_use_cases_alone(room: str) -> None:
    start = ROOT / "hpo_service" / room
    sources = [start] if start.is_file() else sorted(start.rglob("*.py"))
    assert sources
    assert [path for path in sources if ".transaction(" in path.read_text()] == []


def test_every_folder_of_sources_is_a_package() -> None:
    folders = {path.parent for path in SOURCES}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []
