"""Choices that are lists: names of modules are one value of a search, and of what it begins with."""

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.sections.space import SpaceSpec
from hpo_service.domain.study.spec import StudySpec

CHOICES = ["attention", "all-linear", ["q_proj", "v_proj"]]


def test_a_choice_of_target_modules_may_be_a_list_of_names():
    space = SpaceSpec(parameters={"target_modules": {"choices": CHOICES}})
    assert space.parameters["target_modules"].choices == ["attention", "all-linear", "(q_proj, v_proj)"]


def test_the_same_list_twice_is_refused():
    with pytest.raises(ValidationError, match="choices must differ"):
        SpaceSpec(parameters={"target_modules": {"choices": [["q_proj"], ["q_proj"]]}})


def test_a_list_is_no_choice_of_anything_else():
    with pytest.raises(ValidationError, match="lora_rank"):
        SpaceSpec(parameters={"lora_rank": {"choices": [[8, 16]]}})


def test_lists_of_modules_may_be_enqueued_and_compared_with():
    study = StudySpec.model_validate(
        {
            "name": "mine",
            "model": {"base": "a/b"},
            "data": {"source": "c/d"},
            "space": {"parameters": {"target_modules": {"choices": CHOICES}}},
            "search": {"enqueue": [{"target_modules": ["q_proj", "v_proj"]}, {"target_modules": "attention"}]},
            "confirm": {"default": {"target_modules": ["q_proj", "v_proj"], "lora_rank": 8}},
        }
    )
    assert [each["target_modules"] for each in study.search.enqueue] == ["(q_proj, v_proj)", "attention"]
    assert study.confirm.default == {"target_modules": "(q_proj, v_proj)", "lora_rank": 8}
    assert StudySpec.model_validate(study.model_dump(mode="json", exclude_unset=True)) == study
