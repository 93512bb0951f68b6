"""What a study will do, may take and is thought to cost, in lines for people."""

from __future__ import annotations

from typing import Any

from hpo_service.domain.study.spec import StudySpec
from hpo_service.presentation.study_summary import cost_ahead, outside_remarks, study_summary
from hpo_service.service.studies.ahead.outlay import Outlay

OWN = {"objective": {"python": "a:b"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}


def study(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "s", "confirm": {"default": {"x": 0.5}, "seeds": 2}, **OWN, **sections})


def test_a_budget_of_the_whole_study_is_told_with_its_split() -> None:
    search = {"pruner": "none", "budget": {"trials": 16}}
    lines = dict(study_summary(study(search=search, budget={"trials": 14, "money": 28.0, "price_per_hour": 2.0})))
    assert lines["search"].startswith("10 trials")
    assert lines["budget"] == (
        "at most 14 trials in all; at most 14 device hours in all (28 at 2 an hour): search 10, confirm 4"
    )
    assert "budget" not in dict(study_summary(study()))


def test_a_default_that_the_search_cannot_find_is_remarked_on() -> None:
    assert outside_remarks(study()) == []
    (remark,) = outside_remarks(study(confirm={"default": {"x": 2.5}}))
    assert remark == "the default's x 2.5 lies outside of what is searched, 0 to 1: the search cannot find it again"
    assert outside_remarks(study(confirm={"enabled": False, "default": {"x": 2.5}})) == []


def test_the_cost_is_told_stage_by_stage_and_in_money() -> None:
    found = [Outlay("search", 2.0, "a took 0.1 a trial"), Outlay("confirm", None, "nobody ran it")]
    assert cost_ahead(found, 3.0) == (
        "search about 2 device hours (a took 0.1 a trial); confirm not known (nobody ran it); in all 2, 6 at 3 an hour"
    )
    assert cost_ahead(found[:1], None).endswith("; in all 2")


def test_a_cost_that_nobody_knows_is_said_to_be_unknown() -> None:
    assert cost_ahead([], None).startswith("not known")
    assert cost_ahead([Outlay("search", None, "nobody ran it")], 2.0).startswith("not known")
