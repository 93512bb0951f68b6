"""How many trials may share a device."""

from typing import Any

import pytest
from pydantic import ValidationError

from hpo_service.domain.decide.parallel import Parallel, parallel
from hpo_service.domain.study.protocol import CONFIRM, SEARCH, VERIFY, StageRule
from hpo_service.domain.study.spec import StudySpec


def spec(**sections: Any) -> StudySpec:
    built_in = {"model": {"base": "m"}, "data": {"source": "d"}}
    return StudySpec.model_validate({"name": "s", **(built_in if "objective" not in sections else {}), **sections})


@pytest.mark.parametrize("trials, slots", [(3, 1), (7, 1), (8, 2), (20, 5), (1000, 8)])
def test_auto_leaves_the_sampler_most_of_a_search_budget_to_learn_from(trials: int, slots: int) -> None:
    assert parallel(spec(), SEARCH, trials) == Parallel(slots, measured=slots > 1)


@pytest.mark.parametrize("stage", [VERIFY, CONFIRM])
def test_trials_that_are_planned_may_all_share_a_device(stage: StageRule) -> None:
    assert parallel(spec(), stage, 6) == Parallel(6, measured=True)
    assert parallel(spec(), stage, 60) == Parallel(8, measured=True)


def test_no_device_packs_what_another_could_take() -> None:
    assert parallel(spec(), CONFIRM, 6, workers=2) == Parallel(3, measured=True)
    assert parallel(spec(), CONFIRM, 6, workers=4) == Parallel(2, measured=True)
    assert parallel(spec(), CONFIRM, 6, workers=8) == Parallel(1, measured=False)
    assert parallel(spec(), SEARCH, 100, workers=5) == Parallel(5, measured=True)
    assert parallel(spec(), SEARCH, 14, workers=2) == Parallel(1, measured=False)


def test_a_number_that_was_asked_for_is_taken_as_it_is() -> None:
    assert parallel(spec(search={"parallel_per_gpu": 12}), SEARCH, 3) == Parallel(12, measured=False)


OWN = {"objective": {"command": "run"}, "space": {"parameters": {"x": {"low": 0, "high": 1}}}}


@pytest.mark.parametrize("sections", [{"execution": {"gpus_per_trial": 2}}, OWN])
def test_what_cannot_share_a_device_does_not(sections: dict[str, Any]) -> None:
    assert parallel(spec(**sections), SEARCH, 100) == Parallel(1, measured=False)


@pytest.mark.parametrize("sections", [{"execution": {"gpus_per_trial": 2}}, OWN])
def test_asking_for_it_there_is_refused(sections: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="parallel_per_gpu"):
        spec(**sections, search={"parallel_per_gpu": 4})
