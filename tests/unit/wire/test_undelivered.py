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


def _attempts(folder: Path, count: int) -> list[AttemptFolder]:
    attempts = [AttemptFolder(folder / f"attempt-{number}") for number in range(1, count + 1)]
    for each in attempts:
        each.path.mkdir()
    return attempts


def test_reports_of_a_trial_that_was_deleted_are_left_out_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, _ = attempts = _attempts(tmp_path, 3)
    keep_undelivered(first, report(1, 1001.0), "study 1, trial 1 of 10.5")
    keep_undelivered(first, report(2, 1002.0), "study 1, trial 1 of 10.5")
    keep_undelivered(second, report(2, 2.0), "study 2, trial 2 of 20.5")
    found = read_undelivered(attempts[-1], 3, "study 2, trial 2 of 20.5")
    assert [(r.step, r.value) for r in found] == [(2, 2.0)]
    assert "2 reports are left out" in caplog.text


def test_a_report_whose_value_was_changed_on_the_disk_is_left_out(tmp_path: Path) -> None:
    first, second = _attempts(tmp_path, 2)
    keep_undelivered(first, report(1, 1.5), "study 1, trial 1 of 10.5")
    keep_undelivered(first, report(2, 2.5), "study 1, trial 1 of 10.5")
    first.undelivered.write_text(first.undelivered.read_text().replace('"value":1.5', '"value":9.5'))
    assert [r.step for r in read_undelivered(second, 2, "study 1, trial 1 of 10.5")] == [2]


def test_reports_that_an_earlier_version_kept_are_delivered(tmp_path: Path) -> None:
    first, second = _attempts(tmp_path, 2)
    first.undelivered.write_text('{"step":7,"fraction":0.7,"value":NaN,"metrics":{}}\n')
    assert [r.step for r in read_undelivered(second, 2, "study 1, trial 1 of 10.5")] == [7]


def test_a_loss_that_is_not_finite_is_kept_as_it_is(tmp_path: Path) -> None:
    first, second = _attempts(tmp_path, 2)
    keep_undelivered(first, report(1, float("inf")), "study 1, trial 1 of 10.5")
    assert [r.value for r in read_undelivered(second, 2, "study 1, trial 1 of 10.5")] == [float("inf")]
