"""Every broken study file gives exactly one clear line, from the command itself, and exit status 2."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from hpo_service.cli import main

FOLDER = Path(__file__).parent / "broken_studies"

with (FOLDER / "expected.tsv").open(encoding="utf-8", newline="") as table:
    EXPECTED = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))


def hpo_service(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpo_service", *arguments]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False, timeout=60)


def line_of(row):
    key = f" {row['key']}:" if row["key"] else ""
    message = row["message"].replace("FOLDER", str(FOLDER))
    return f"error: {row['file']}:{row['line']}:{key} {message}\n"


@pytest.mark.parametrize("row", EXPECTED, ids=lambda row: row["file"].removesuffix(".yaml"))
def test_a_broken_study_file_gives_one_line_with_file_line_and_key(row, monkeypatch, capsys):
    monkeypatch.chdir(FOLDER)
    with pytest.raises(SystemExit) as ended:
        main(["study", "validate", row["file"]])
    out, err = capsys.readouterr()
    assert err == line_of(row)
    assert out == ""
    assert ended.value.code == 2


@pytest.mark.parametrize("row", EXPECTED[::15], ids=lambda row: row["file"].removesuffix(".yaml"))
def test_so_it_is_from_a_shell(row):
    done = hpo_service("study", "validate", row["file"])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line_of(row))


def test_there_are_at_least_twenty_and_the_table_names_each_of_them():
    assert sorted(row["file"] for row in EXPECTED) == sorted(path.name for path in FOLDER.glob("*.yaml"))
    assert len(EXPECTED) >= 20


def test_each_message_says_something_else():
    assert len({row["message"] for row in EXPECTED}) >= 35
