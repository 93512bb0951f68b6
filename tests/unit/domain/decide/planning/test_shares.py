"""A whole study's budget is split in advance: what proves the result comes first, search has the rest."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hpo_service.domain.decide.planning.shares import PRUNED_SHARE, shares, stage_hours
from hpo_service.domain.study.protocol import planned_trials, stages_of
from hpo_service.domain.study.spec import StudySpec

OWN = {"objective": {"python": "a:b"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}
TRAINED = {"model": {"base": "org/model-1B", "target": "org/model-7B"}, "data": {"source": "org/rows"}}


def study(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "s", "confirm": {"default": {"x": 0.5}, "seeds": 2}, **OWN, **sections})


def trained(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "s", **TRAINED, **sections})


def search_hours(spec: StudySpec) -> float | None:
    return stage_hours(spec, stages_of(spec)[0])


def test_without_a_budget_nothing_is_bounded() -> None:
    assert [(s.stage, s.trials, s.hours) for s in shares(study())] == [("search", 20, None), ("confirm", 4, None)]
    assert search_hours(study()) is None


def test_trials_that_prove_the_result_come_first() -> None:
    found = shares(study(budget={"trials": 10}))
    assert [(s.stage, s.trials) for s in found] == [("search", 6), ("confirm", 4)]
    assert shares(study(budget={"trials": 100}))[0].trials == 20, "the search's own limit stays"


def test_hours_are_split_by_what_trials_are_thought_to_take() -> None:
    search, confirm = shares(study(budget={"gpu_hours": 10.0}, search={"pruner": "none", "budget": {"trials": 16}}))
    assert (search.hours, confirm.hours) == pytest.approx((8.0, 2.0))
    search, confirm = shares(study(budget={"gpu_hours": 10.0}, search={"budget": {"trials": 16}}))
    assert search.hours == pytest.approx(10 * 16 * PRUNED_SHARE / (16 * PRUNED_SHARE + 4))


def test_a_larger_model_has_more_of_them() -> None:
    spec = trained(budget={"gpu_hours": 10.0})
    found = {share.stage: share for share in shares(spec)}
    assert found["confirm"].weight == pytest.approx(7.0)
    assert found["verify"].weight == pytest.approx(7.0 * PRUNED_SHARE)
    assert sum(share.hours or 0.0 for share in found.values()) == pytest.approx(10.0)
    unknown = trained(model={"base": "org/small", "target": "org/large"}, budget={"gpu_hours": 10.0})
    assert shares(unknown)[-1].weight == 1.0


def test_the_search_keeps_its_own_limit_where_that_is_less() -> None:
    assert search_hours(study(budget={"gpu_hours": 10.0}, search={"budget": {"gpu_hours": 1.0}})) == 1.0
    assert search_hours(study(search={"budget": {"gpu_hours": 1.0}})) == 1.0


def test_searches_in_two_parts_share_what_one_would_have() -> None:
    spec = trained(
        protocol="progressive", budget={"gpu_hours": 10.0}, search={"budget": {"trials": 9, "gpu_hours": 4.5}}
    )
    hours = [stage_hours(spec, rule) for rule in stages_of(spec)]
    assert hours[2:] == [None, None], "planned stages have no limit of their own"
    found = shares(spec)
    assert [hours[0], hours[1]] == pytest.approx([min(2.0, found[0].hours), min(2.5, found[1].hours)])
    assert found[0].weight < found[1].weight, "coarse trials see a share of the rows"


def test_a_budget_that_leaves_no_search_is_refused() -> None:
    spec = trained()
    with pytest.raises(ValidationError, match="leave none for the search"):
        trained(budget={"trials": planned_trials(spec)})
    assert trained(budget={"trials": planned_trials(spec) + 1}).budget.trials
