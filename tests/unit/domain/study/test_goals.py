"""What a study file may say of limits and goals."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hpo_service.domain.decide.parallel import Parallel, parallel
from hpo_service.domain.study.protocol import CONFIRM, SEARCH
from hpo_service.domain.study.spec import StudySpec

OWN = {"objective": {"python": "a:b"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}
BUILT_IN = {"model": {"base": "m"}, "data": {"source": "d"}}


def spec(search: dict[str, Any], **sections: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "s", **(sections or BUILT_IN), "search": search})


@pytest.mark.parametrize(
    "search, sections, said",
    [
        ({"goals": []}, BUILT_IN, "at least 1 item"),
        ({"goals": ["seconds"]}, BUILT_IN, "begin with it"),
        ({"goals": ["loss", "loss"]}, BUILT_IN, "named twice"),
        ({"goals": ["loss", "speed"]}, BUILT_IN, "seconds"),
        ({"constraints": {"seconds": 0}}, BUILT_IN, "greater than 0"),
        ({"goals": ["loss", "memory_gb"]}, OWN, "memory_gb of an objective of your own is not measured"),
        ({"constraints": {"adapter_mb": 1}}, OWN, "adapter_mb of an objective of your own is not measured"),
        ({"constraints": {"seconds": 1}, "parallel_per_gpu": 2}, BUILT_IN, "cannot be told of trials that share"),
        ({"goals": ["loss", "seconds"], "pruner": "halving"}, BUILT_IN, "halving compares losses"),
        ({"goals": ["loss", "seconds"], "stop_when_gain_below": 0.1}, BUILT_IN, "of the loss alone"),
        ({"goals": ["loss", "seconds"], "warm_start": "other"}, BUILT_IN, "costs are of other runs"),
        (
            {"goals": ["loss", "seconds"]},
            {**BUILT_IN, "protocol": "quick"},
            "use one of full, tpe, random, grid, proxy",
        ),
        (
            {"goals": ["loss", "seconds"]},
            {**BUILT_IN, "protocol": "progressive"},
            "goes on with what has the best loss",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(search: Any, sections: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(search, **sections)


def test_an_objective_of_ones_own_may_be_limited_in_time_and_have_it_as_a_goal() -> None:
    assert spec({"constraints": {"seconds": 5}, "goals": ["loss", "seconds"]}, **OWN).search.weighed == {"seconds"}


def test_with_several_goals_pruners_compare_nobody_in_the_search_alone() -> None:
    study = spec({"goals": ["loss", "seconds"]})
    assert SEARCH.search(study).pruner == "none"
    assert SEARCH.goals_of(study) == ["loss", "seconds"]
    assert CONFIRM.goals_of(study) == ["loss"]
    patient = spec({"goals": ["loss", "seconds"], "pruner": "patient"})
    assert SEARCH.search(patient).pruner == "patient"
    assert SEARCH.search(spec({})).pruner == "early_exit"


@pytest.mark.parametrize(
    "search, slots", [({}, 5), ({"constraints": {"adapter_mb": 1}}, 5), ({"goals": ["loss", "seconds"]}, 1)]
)
def test_trials_whose_time_or_memory_counts_have_their_device_to_themselves(search: Any, slots: int) -> None:
    assert parallel(spec(search), SEARCH, 20) == Parallel(slots, measured=slots > 1)
