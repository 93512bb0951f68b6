"""From a row of the queue to what a worker receives."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service.domain.study.protocol import CONFIRM, SEARCH, STAGES, VERIFY, StageRule
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.states import TrialState
from hpo_service.service.trials.assignment import assignment, trial_config
from hpo_service.storage.studies import StageRow
from hpo_service.storage.trial.trials import TrialRow

MODEL = {"base": "small", "target": "large"}


def spec(**sections: Any) -> StudySpec:
    """A study of the built-in trainer."""
    given = {"name": "s", "model": MODEL, "data": {"source": "rows.jsonl"}, **sections}
    return StudySpec.model_validate(given)


def stage(which: StageRule = SEARCH) -> StageRow:
    """An open stage."""
    values: dict[str, Any] = dict.fromkeys(StageRow.__dataclass_fields__, None)
    return StageRow(
        **{**values, "id": 5, "stage": which.name, "optuna_name": f"s/{which.name}", "trials": 9, "space_document": {}}
    )


def row(**changes: Any) -> TrialRow:
    """A claimed trial."""
    values: dict[str, Any] = dict.fromkeys(TrialRow.__dataclass_fields__, None)
    claimed: dict[str, Any] = {
        "id": 11,
        "number": 3,
        "token": 4,
        "attempt": 2,
        "errors": 1,
        "losses": 0,
        "seed": 42,
        "state": TrialState.RUNNING,
        "parameters": {"learning_rate": 3e-4, "lora_rank": 32},
        "score_test": False,
        "keep_adapter": False,
        "share": 1.0,
    }
    return TrialRow(**{**values, **claimed, **changes})


def config(study: StudySpec, which: StageRule = SEARCH, **parameters: ParameterValue) -> TrialConfig:
    """What a child is given for these values."""
    return trial_config(study, which, row(parameters=parameters))


def test_an_assignment_names_the_trial_its_lease_and_the_studys_limits() -> None:
    study = spec(execution={"lease_seconds": 33, "hang_seconds": 44}, search={"parallel_per_gpu": 5})
    given = assignment(study, stage(VERIFY), row())
    assert given.lease == Lease(trial_id=11, token=4)
    assert (given.study, given.stage, given.number, given.attempt) == ("s", "verify", 3, 2)
    assert (given.lease_seconds, given.hang_seconds, given.slots) == (33.0, 44.0, 5)
    assert given.key == "verify-0003"


def test_a_trial_that_was_not_bound_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trial 11 of s/search has no number"):
        assignment(spec(), stage(), row(number=None))


def test_the_trials_values_are_applied_to_what_the_study_fixes() -> None:
    given = config(spec(training={"weight_decay": 0.05, "patience": 7}), learning_rate=3e-4, lora_rank=32)
    assert given.parameters == {"learning_rate": 3e-4, "lora_rank": 32}
    assert (given.training.learning_rate, given.training.lora_rank) == (3e-4, 32)
    assert (given.training.weight_decay, given.training.patience) == (0.05, 7)
    assert given.training.scheduler == "cosine"


@pytest.mark.parametrize(
    "fixed, sampled, alpha",
    [
        ({}, {}, 16.0),
        ({}, {"lora_rank": 32, "lora_alpha_multiplier": 2}, 64.0),
        ({"lora_alpha": 24}, {"lora_rank": 32}, 24.0),
        ({"lora_alpha": 24}, {"lora_alpha_multiplier": 2}, 32.0),
        ({"lora_alpha_multiplier": 3}, {"lora_rank": 8}, 24.0),
        ({"lora_alpha_multiplier": 3}, {"lora_alpha": 20}, 20.0),
    ],
)
def test_alpha_is_the_sampled_one_else_the_fixed_one_else_the_rank(
    fixed: dict[str, Any], sampled: dict[str, ParameterValue], alpha: float
) -> None:
    given = trial_config(spec(training=fixed, space={"preset": "minimal"}), SEARCH, row(parameters=sampled))
    assert given.training.alpha == alpha
    again = TrialConfig.model_validate_json(given.model_dump_json())
    assert again.training.alpha == alpha


@pytest.mark.parametrize(
    "model, which, name",
    [
        (MODEL, SEARCH, "small"),
        (MODEL, VERIFY, "large"),
        (MODEL, CONFIRM, "large"),
        ({"base": "small"}, SEARCH, "small"),
        ({"base": "small"}, CONFIRM, "small"),
    ],
)
def test_search_trains_the_small_model_and_later_stages_the_target(
    model: dict[str, str], which: StageRule, name: str
) -> None:
    assert config(spec(model=model), which).model_name == name


def test_data_seed_and_what_to_keep_are_passed_on() -> None:
    study = spec(data={"source": "rows.jsonl", "max_length": 64})
    given = trial_config(study, CONFIRM, row(seed=1042, score_test=True, keep_adapter=True, share=0.25))
    assert given.data == study.data
    assert (given.seed, given.score_test, given.keep_adapter, given.share) == (1042, True, True, 0.25)


def test_an_objective_gets_its_parameters_and_how_often_its_study_expects_reports() -> None:
    study = StudySpec.model_validate(
        {
            "name": "s",
            "objective": {"command": "train.py --x {x}"},
            "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
            "training": {"evaluations_per_epoch": 20, "epochs": 2},
        }
    )
    given = config(study, x=0.25)
    assert given.parameters == {"x": 0.25}
    assert given.objective == study.objective
    assert (given.training.evaluations_per_epoch, given.training.epochs) == (20, 2)
    assert (given.model, given.data, given.model_name) == (None, None, None)


def test_what_a_child_is_given_survives_the_pipe() -> None:
    given = assignment(spec(training={"lora_alpha": 24}, space={"preset": "minimal"}), stage(), row())
    assert type(given).model_validate_json(given.model_dump_json()) == given


def test_metrics_reach_only_trials_of_their_stages_and_trackers_all() -> None:
    sections = {"evaluation": {"metrics": ["rouge_l"]}, "tracking": {"trackers": ["mlflow"]}}
    configs = {which.name: trial_config(spec(**sections), which, row()) for which in STAGES.values()}
    assert [name for name, config in configs.items() if config.evaluation is not None] == ["confirm"]
    assert all(config.tracking is not None for config in configs.values())
    plain = trial_config(spec(), CONFIRM, row())
    assert (plain.evaluation, plain.tracking) == (None, None)


def test_what_is_selected_on_reaches_every_trial_and_test_rows_where_they_are_scored() -> None:
    study = spec(evaluation={"select": "exact_match", "metrics": ["rouge_l"]})
    searched = trial_config(study, SEARCH, row()).evaluation
    confirmed = trial_config(study, CONFIRM, row(score_test=True)).evaluation
    assert searched is not None
    assert (searched.select, searched.metrics) == ("exact_match", [])
    assert confirmed is not None
    assert confirmed.metrics == ["exact_match", "rouge_l"]
