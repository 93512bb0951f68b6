"""What a dead worker could not deliver is delivered by whoever resumes from the checkpoint that lies ahead of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.undelivered import keep_undelivered, read_undelivered
from hpo_service.worker.handover import prepare_folder

Trial = Callable[..., Assignment]


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


def test_reports_of_an_outage_are_in_the_journal_before_the_child_goes_on(world: Any, trial: Trial) -> None:
    world.script.steps = 5
    world.outage(15, 45)
    assignment = trial(0, lease_seconds=100.0)
    world.run(assignment)
    folder = AttemptFolder.of(world.output, assignment)
    kept = [
        Report.model_validate_json(line).step for line in (folder.path / "undelivered.jsonl").read_text().splitlines()
    ]
    assert kept == [2, 3, 4]


def test_whoever_resumes_delivers_what_the_dead_worker_could_not(world: Any, trial: Trial) -> None:
    first, second = trial(0), trial(0, attempt=2)
    folder = AttemptFolder.of(world.output, first)
    prepare_folder(folder, first)
    folder.checkpoint.mkdir()
    keep_undelivered(folder, report(7, 0.7))
    world.run(second)
    delivered = [about for _, call, about in world.queue.log if call == "report"]
    assert delivered[0] == (0, 7)
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]


def test_without_a_checkpoint_everything_is_reported_anew(world: Any, trial: Trial) -> None:
    first, second = trial(0), trial(0, attempt=2)
    folder = AttemptFolder.of(world.output, first)
    prepare_folder(folder, first)
    keep_undelivered(folder, report(7, 0.7))
    world.run(second)
    assert (0, 7) not in [about for _, call, about in world.queue.log if call == "report"]
