"""What a search begins with: the default inside the space, then what the user enqueued."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service.domain.decide.start.beginning import Beginning, beginnings, default_beyond, default_outside
from hpo_service.domain.study.spec import StudySpec

DEFAULT: dict[str, Any] = {
    "learning_rate": 2e-4,
    "lora_rank": 16,
    "lora_alpha_multiplier": 1,
    "lora_dropout": 0.0,
    "warmup_ratio": 0.03,
    "weight_decay": 0.01,
}


def spec(**sections: Any) -> StudySpec:
    """A study of the built-in trainer."""
    return StudySpec.model_validate({"name": "s", "model": {"base": "b"}, "data": {"source": "r.jsonl"}, **sections})


def own(**sections: Any) -> StudySpec:
    """A study with an objective of its user's own."""
    space = {"parameters": {"x": {"low": 1e-3, "high": 10.0, "log": True}, "kind": {"choices": ["a", "b"]}}}
    return StudySpec.model_validate({"name": "s", "objective": {"python": "m:f"}, "space": space, **sections})


def test_a_search_begins_with_the_practitioners_default() -> None:
    assert beginnings(spec()) == [Beginning("default", DEFAULT)]
    assert default_outside(spec()) == {}


def test_a_default_between_choices_is_moved_to_the_nearest_and_told() -> None:
    study = spec(space={"parameters": {"lora_rank": {"choices": [4]}}})
    assert beginnings(study)[0].parameters == {**DEFAULT, "lora_rank": 4}
    assert default_outside(study) == {"lora_rank": (16, "is none of its choices: 4")}
    assert default_beyond(study) == []


def test_a_default_beyond_a_range_is_no_baseline_and_not_tried() -> None:
    rate = {"low": 5e-4, "high": 2e-2, "log": True}
    study = spec(space={"parameters": {"learning_rate": rate}}, search={"enqueue": [{"lora_rank": 8}]})
    assert default_beyond(study) == ["learning_rate"]
    assert beginnings(study) == [Beginning("enqueued 1", {**DEFAULT, "learning_rate": 5e-4, "lora_rank": 8})]
    assert default_outside(study) == {"learning_rate": (2e-4, "lies outside of its range, 0.0005 to 0.02")}


def test_the_default_that_the_study_gives_is_the_one() -> None:
    study = spec(confirm={"default": {"learning_rate": 1e-4, "lora_alpha": 32, "optimizer": "sgd"}})
    assert beginnings(study)[0].parameters == {**DEFAULT, "learning_rate": 1e-4, "lora_alpha_multiplier": 2}


def test_alpha_follows_from_the_multiplier_where_alpha_itself_is_searched() -> None:
    space = {"preset": "minimal", "parameters": {"lora_alpha": {"low": 4.0, "high": 128.0}}}
    assert beginnings(spec(space=space))[0].parameters["lora_alpha"] == 16
    given = spec(space=space, confirm={"default": {"lora_rank": 8, "lora_alpha_multiplier": 4}})
    assert beginnings(given)[0].parameters == {"learning_rate": 2e-4, "lora_rank": 8, "lora_alpha": 32}


def test_parameters_whose_condition_does_not_hold_are_left_out() -> None:
    space = {"parameters": {"lora_dropout": {"low": 0.0, "high": 0.1, "when": {"lora_rank": [32]}}}}
    assert "lora_dropout" not in beginnings(spec(space=space))[0].parameters
    study = spec(space=space, search={"enqueue": [{"lora_rank": 32}]})
    assert beginnings(study)[1].parameters["lora_dropout"] == 0.0


def test_what_an_enqueued_configuration_leaves_out_is_the_defaults() -> None:
    study = spec(
        search={"enqueue": [{"learning_rate": 1e-4}, {"lora_dropout": 0}, {"lora_rank": 8, "lora_dropout": 0}]}
    )
    assert beginnings(study)[1:] == [
        Beginning("enqueued 1", {**DEFAULT, "learning_rate": 1e-4}),
        Beginning("enqueued 3", {**DEFAULT, "lora_rank": 8}),
    ], "the second is the default itself"
    assert isinstance(beginnings(study)[2].parameters["lora_dropout"], float)


def test_an_objective_of_ones_own_has_a_default_only_where_the_study_gives_one() -> None:
    assert beginnings(own()) == []
    assert beginnings(own(search={"enqueue": [{"x": 1, "kind": "b"}]})) == [
        Beginning("enqueued 1", {"x": 1.0, "kind": "b"})
    ]
    found = beginnings(own(confirm={"default": {"kind": "b"}}))[0].parameters
    assert found["kind"] == "b"
    assert found["x"] == pytest.approx(0.1), "the middle of what the study leaves out, in the logarithm"
