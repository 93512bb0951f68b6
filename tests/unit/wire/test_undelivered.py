"""Reports that were not delivered are kept in the attempt's folder, and read by whoever resumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo_service.domain.trial.report import Report
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.undelivered import keep_undelivered, read_undelivered


def report(step: int, value: float = 1.0) -> Report:
    return Report(step=step, fraction=step / 10, value=value)


def test_reports_of_all_earlier_attempts_are_recalled_by_step_and_the_first_stands(tmp_path: Path) -> None:
    for attempt, step, value in ((1, 2, 2.0), (2, 3, 3.0), (2, 2, 9.0), (3, 4, 4.0)):
        folder = AttemptFolder(tmp_path / f"attempt-{attempt}")
        folder.path.mkdir(exist_ok=True)
        keep_undelivered(folder, report(step, value))
    assert [(r.step, r.value) for r in read_undelivered(AttemptFolder(tmp_path / "attempt-3"), 3)] == [
        (2, 2.0),
        (3, 3.0),
    ]


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    folder = AttemptFolder(tmp_path / "attempt-1")
    folder.path.mkdir()
    keep_undelivered(folder, report(1))
    with folder.undelivered.open("a") as file:
        file.write('{"step": 2, "frac')
    assert [r.step for r in read_undelivered(AttemptFolder(tmp_path / "attempt-2"), 2)] == [1]


def test_a_full_disk_costs_the_journal_and_not_the_worker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_undelivered(AttemptFolder(tmp_path / "missing"), report(1))
    assert "kept in memory alone" in caplog.text
