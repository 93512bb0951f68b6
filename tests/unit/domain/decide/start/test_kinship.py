"""Which studies measure the same thing."""

from __future__ import annotations

from typing import Any

from hpo_service.domain.decide.start.kinship import differences
from hpo_service.domain.study.spec import StudySpec


def spec(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "s", "model": {"base": "b"}, "data": {"source": "r.jsonl"}, **sections})


def test_studies_that_search_differently_measure_the_same() -> None:
    other = spec(name="t", search={"sampler": "tpe"}, space={"preset": "minimal"}, model={"base": "b", "target": "c"})
    assert differences(spec(), other) == []


def test_another_model_rows_or_training_is_told() -> None:
    other = spec(model={"base": "c"}, data={"source": "t.jsonl"}, training={"epochs": 2})
    assert differences(spec(), other) == ["model", "data", "training"]


def test_an_objective_of_ones_own_is_another_thing() -> None:
    own = StudySpec.model_validate(
        {"name": "o", "objective": {"python": "m:f"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}
    )
    assert differences(own, own) == []
    assert differences(spec(), own) == ["model", "data", "objective"]


def test_studies_that_select_on_other_measures_do_not_measure_the_same() -> None:
    assert differences(spec(), spec(evaluation={"select": "exact_match"})) == ["evaluation"]
    few, many = ({"select": "exact_match", "examples": count} for count in (8, 100))
    assert differences(spec(evaluation=few), spec(evaluation=many)) == ["evaluation"]
    assert differences(spec(evaluation={"examples": 8}), spec()) == []


def test_how_the_base_is_held_and_on_how_many_rows_is_told_too() -> None:
    assert differences(spec(), spec(model={"base": "b", "quantisation": "nf4"})) == ["model"]
    assert differences(spec(), spec(protocol="proxy")) == ["the share of the rows"]
