"""What a dead worker could not deliver is delivered by whoever resumes from the checkpoint that lies ahead of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.undelivered import keep_undelivered
from hpo_service.worker.handover import prepare_folder

Trial = Callable[..., Assignment]


def report(step: int, value: float = 1.0) -> Report:
    return Report(step=step, fraction=step / 10, value=value)


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
