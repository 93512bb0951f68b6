"""A real LoRA trial whose child and whose worker are killed ends bit for bit as one that nothing happened to."""

from __future__ import annotations

import signal
from typing import Any

import psutil
import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.studies.snapshot import TrialView
from hpo_service.settings import Settings
from tests.acceptance.home import PATIENCE, wait_until
from tests.training.tiny import pairs, save_tiny_llama, write_rows

EVALUATIONS = 8


@pytest.fixture
def service(migrated_sqlite, tmp_path):
    made = Service(Settings(storage=migrated_sqlite, output=tmp_path / "out", cache=tmp_path / "cache"))
    yield made
    made.db.dispose()


@pytest.fixture
def spec_named(tmp_path):
    """Makes studies of one trial that differ in nothing but their names; its random numbers matter (dropout)."""
    llama = save_tiny_llama(tmp_path / "llama")
    rows = write_rows(tmp_path / "rows.jsonl", pairs(1600))

    def make(name: str) -> StudySpec:
        return StudySpec.model_validate(
            {
                "name": name,
                "model": {"base": llama},
                "data": {"source": rows, "max_length": 64},
                "space": {"preset": "none", "parameters": {"learning_rate": {"low": 4e-3, "high": 5e-3}}},
                "search": {"budget": {"trials": 1}, "sampler": "random"},
                "training": {
                    "lora_dropout": 0.2,
                    "effective_batch": 8,
                    "evaluations_per_epoch": EVALUATIONS,
                    "patience": 0,
                },
                "execution": {"lease_seconds": 8},
                "confirm": {"enabled": False},
            }
        )

    return make


def trial_of(service: Service, study: str) -> TrialView | None:
    return next(iter(service.reader.snapshot(study).stages[0].trials), None)


def kill_like_a_machine(worker: psutil.Process) -> None:
    """End a worker and its child together: neither sees the other go, nor saves anything."""
    worker.send_signal(signal.SIGSTOP)
    for process in [*worker.children(recursive=True), worker]:
        process.kill()


def outcome(service: Service, study: str) -> dict[str, Any]:
    """Everything that was measured in the only trial of a study, digit for digit."""
    trial = trial_of(service, study)
    assert trial is not None
    with service.db.transaction():
        scores = service.score_rows.load(trial.id, "validation")
    assert scores is not None
    curve = [(report.step, report.fraction, report.value) for report in trial.curve]
    return {"parameters": trial.parameters, "value": trial.value, "curve": curve, "rows": scores.nll}


@pytest.mark.slow
def test_a_trial_killed_in_mid_epoch_ends_with_exactly_the_loss_of_an_undisturbed_one(service, spec_named, fleet_of):
    service.studies.create(spec_named("killed"))
    fleet = fleet_of(service, "killed")
    # the child dies behind its third checkpoint; the one that takes over writes but two more before it is killed
    [worker] = fleet.start(1, failpoint="checkpoint.written:3")

    def well_into_the_second_half() -> bool:
        assert worker.poll() is None
        trial = trial_of(service, "killed")
        return trial is not None and len(trial.curve) >= 5

    wait_until(well_into_the_second_half, "the second attempt has reported")
    kill_like_a_machine(psutil.Process(worker.pid))
    at_death = trial_of(service, "killed")
    assert at_death is not None
    assert (at_death.state, at_death.attempt, at_death.errors) == (TrialState.RUNNING, 2, 1)
    assert len(at_death.curve) < EVALUATIONS
    assert list(fleet.output.glob("killed/trials/*/attempt-2/checkpoint/step-*/complete.json"))

    # one worker does both, the undisturbed trial while the dead worker's lease still holds
    service.studies.create(spec_named("undisturbed"))
    everything = fleet_of(service, "")
    everything.start(1)
    assert everything.wait(PATIENCE)

    killed, undisturbed = trial_of(service, "killed"), trial_of(service, "undisturbed")
    assert killed is not None
    assert undisturbed is not None
    assert (
        service.reader.snapshot("killed").state is service.reader.snapshot("undisturbed").state is StudyState.FINISHED
    )
    assert (killed.state, killed.attempt, killed.errors, killed.losses) == (TrialState.COMPLETE, 3, 1, 1)
    assert (undisturbed.state, undisturbed.attempt) == (TrialState.COMPLETE, 1)
    steps, resumed_at = undisturbed.facts.training.steps, killed.facts.training.resumed_at_step
    assert isinstance(steps, int)
    assert isinstance(resumed_at, int)
    assert steps / 2 <= resumed_at < steps
    assert undisturbed.facts.training.resumed_at_step == 0
    assert outcome(service, "killed") == outcome(service, "undisturbed")
