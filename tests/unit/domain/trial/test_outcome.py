"""What travels between manager, worker and child: names, means, and that it survives the journey."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.assignment import Assignment, Lease
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.scores import Scores


def config(**changes: object) -> TrialConfig:
    given = {
        "study": "s",
        "stage": "search",
        "parameters": {"lora_rank": 8, "scheduler": "cosine"},
        "seed": 7,
        "model": ModelSpec(base="a/b"),
        "model_name": "a/b",
        "data": DataSpec(source="c/d"),
        "training": TrainingSpec(lora_alpha=32),
    }
    return TrialConfig.model_validate({**given, **changes})


def assignment(number: int = 7) -> Assignment:
    return Assignment(
        lease=Lease(trial_id=1, token=2),
        study="s",
        stage="verify",
        number=number,
        attempt=1,
        config=config(),
        lease_seconds=60.0,
        hang_seconds=600.0,
    )


@pytest.mark.parametrize("number, key", [(7, "verify-0007"), (12345, "verify-12345")])
def test_a_trials_key_names_stage_and_number(number, key):
    assert assignment(number).key == key


def test_an_attempts_name_is_unique_among_studies_trials_and_attempts():
    assert assignment().name == "s/verify-0007/1"


def test_a_configuration_names_the_models_of_its_study():
    assert config().models == ["a/b"]
    assert config(model=ModelSpec(base="a/b", target="c/d")).models == ["a/b", "c/d"]
    assert config(model=None, model_name=None).models == []


def test_an_assignment_survives_being_written_as_json():
    before = assignment()
    assert Assignment.model_validate_json(before.model_dump_json()) == before


def test_attempts_count_from_one():
    with pytest.raises(ValidationError):
        Assignment.model_validate({**assignment().model_dump(), "attempt": 0})


def test_a_mean_weighs_rows_by_their_tokens():
    assert Scores(nll=[10.0, 1.0], tokens=[9, 1]).mean == pytest.approx(1.1)
    assert Scores(nll=[], tokens=[]).mean == 0


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_reports_fraction_is_a_share(fraction):
    with pytest.raises(ValidationError):
        Report(step=1, fraction=fraction, value=1.0)


def test_decisions_and_outcomes_carry_a_reason():
    with pytest.raises(ValidationError):
        Decision(action="prune", reason="")
    with pytest.raises(ValidationError):
        Outcome(kind=OutcomeKind.PRUNED, reason="")
    assert Decision(action="prune", reason="7th of 9").reason == "7th of 9"


def test_unknown_keys_are_refused():
    with pytest.raises(ValidationError):
        config(modle="a/b")


def test_a_reason_is_written_so_that_every_database_takes_it() -> None:
    told = Outcome(kind=OutcomeKind.ERROR, reason="half a name \udcff, a NUL \0")
    assert told.reason == "half a name \\udcff, a NUL \\0"
    with pytest.raises(ValidationError, match="reason"):
        Outcome.model_validate({"kind": "error", "reason": 5})


@pytest.mark.parametrize(
    "facts, seconds",
    [
        ({"engine": "packed", "device_seconds": 2.5}, 2.5),
        ({"engine": "packed", "device_seconds": 3}, 3.0),
        ({"engine": "packed", "device_seconds": float("nan")}, None),
        ({"engine": "packed", "device_seconds": -1.0}, None),
        ({"engine": "packed", "device_seconds": "long"}, None),
        ({"engine": "packed"}, None),
        ({"device_seconds": 2.5}, None),
    ],
)
def test_only_a_trial_that_shared_a_device_tells_how_much_of_it_it_had(facts, seconds):
    assert Outcome(kind=OutcomeKind.COMPLETE, reason="done", facts=facts).shared_seconds == seconds
