"""The page about the command line says what the commands say, wherever it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hpo_service import errors
from hpo_service.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
PROGRAM = str(ROOT / "docs" / "command_line_reference.py")


def paths(command, path="hpo-service"):
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield f"{path} {name}"
        yield from paths(command.get_command(None, name), f"{path} {name}")


@pytest.mark.parametrize(
    "surroundings",
    [{"COLUMNS": "40", "NO_COLOR": "1"}, {"COLUMNS": "300", "HPO_SERVICE_STORAGE": "sqlite:///x.db", "LANG": "C"}],
)
def test_the_reference_is_up_to_date_whatever_the_terminal_and_the_environment(surroundings):
    environment = {**os.environ, **surroundings}
    done = subprocess.run([sys.executable, PROGRAM, "--check"], check=False, timeout=60, env=environment)
    assert done.returncode == 0, "run docs/command_line_reference.py"


def test_every_command_has_a_section():
    found = list(paths(typer.main.get_command(app)))
    assert len(found) > 50
    assert [path for path in found if f"# `{path}`\n" not in PAGE] == []


def test_every_exit_status_of_an_error_is_explained():
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    statuses = {kind.exit_code for kind in kinds if issubclass(kind, errors.HpoServiceError)}
    assert [status for status in sorted(statuses) if f"\n| {status} |" not in PAGE] == []
