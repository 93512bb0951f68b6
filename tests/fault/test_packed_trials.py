"""A study whose trials share their device: the whole path, through a real worker and its child."""

from __future__ import annotations

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.study.protocol import SEARCH
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.trials.assignment import trial_config
from hpo_service.settings import Settings
from tests.acceptance.home import PATIENCE
from tests.training.tiny import Trainee, pairs, save_tiny_llama, write_rows

TRIALS = 6


@pytest.fixture
def service(migrated_sqlite, tmp_path):
    made = Service(Settings(storage=migrated_sqlite, output=tmp_path / "out", cache=tmp_path / "cache"))
    yield made
    made.db.dispose()


@pytest.fixture
def spec(tmp_path) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": "shared",
            "model": {"base": save_tiny_llama(tmp_path / "llama")},
            "data": {"source": write_rows(tmp_path / "rows.jsonl", pairs(200)), "max_length": 64},
            "space": {
                "preset": "none",
                "parameters": {
                    "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
                    "lora_rank": {"choices": [2, 4, 16]},
                    "target_modules": {"choices": ["minimal", "attention", "all-linear"]},
                },
            },
            "search": {
                "budget": {"trials": TRIALS},
                "sampler": "random",
                "pruner": "none",
                "parallel_per_gpu": 4,
            },
            "training": {"effective_batch": 8, "evaluations_per_epoch": 3, "patience": 0},
            "confirm": {"enabled": False},
        }
    )


def configs(service: Service, spec: StudySpec) -> dict[int, TrialConfig]:
    """What each trial was told to do, by its number."""
    with service.db.transaction():
        study = service.study_rows.get(spec.name)
        rows = service.trial_rows.list(study.id)
    return {row.number: trial_config(spec, SEARCH, row) for row in rows if row.number is not None}


@pytest.mark.slow
def test_six_trials_share_one_device_and_have_the_values_they_have_alone(service, spec, fleet_of, tmp_path):
    service.studies.create(spec)
    fleet = fleet_of(service, spec.name)
    fleet.start(1)
    assert fleet.wait(PATIENCE)
    study = service.reader.snapshot(spec.name)
    assert study.state is StudyState.FINISHED
    trials = study.stages[0].trials
    assert [(trial.state, trial.attempt) for trial in trials] == [(TrialState.COMPLETE, 1)] * TRIALS
    assert {trial.facts.environment.engine for trial in trials} == {"packed"}

    told = (fleet.output / "workers.log").read_text()
    assert told.count("up to 4 trials at once: the study asks for 4") == 1
    with service.db.transaction():
        shares = [attempt.devices for trial in trials for attempt in service.trial_rows.attempts.of(trial.id)]
    # nobody knew of others when the first was claimed
    assert sorted(shares) == [0.25] * (TRIALS - 1) + [1.0]

    trainee = Trainee(spec.model.base, spec.data.source, tmp_path / "alone")
    for trial in trials:
        trainee.run(configs(service, spec)[trial.number], f"trial-{trial.number}")
        curve = [(report.step, report.value) for report in trial.curve]
        assert curve == [(report.step, pytest.approx(report.value, rel=1e-5)) for report in trainee.reports]
