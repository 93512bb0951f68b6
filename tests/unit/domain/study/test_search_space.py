"""Search spaces: bounds, conditions, sizes and what makes two configurations equal."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
    canonical_key,
    value_count,
)


def space(**parameters: dict[str, Any]) -> SearchSpace:
    return SearchSpace.model_validate({"parameters": parameters})


def complaint(**parameters: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        space(**parameters)
    return caught.value.errors()[0]["msg"]


@pytest.mark.parametrize("kind", ["int", "float"])
@pytest.mark.parametrize(
    "bounds,message",
    [
        ({"low": 2, "high": 1}, "low (2) must not exceed high (1)"),
        ({"low": 0, "high": 1, "log": True}, "a log scale needs low above 0, not 0"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "log and step exclude each other: drop one"),
    ],
)
def test_bounds_that_cannot_be_are_refused(kind: str, bounds: dict[str, Any], message: str) -> None:
    assert complaint(x={"type": kind, **bounds}) == message


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bounds_are_numbers(value: float) -> None:
    assert "finite" in complaint(x={"type": "float", "low": 0.0, "high": value})


def test_choices_must_differ_but_true_is_not_one() -> None:
    assert complaint(x={"type": "categorical", "choices": [1, 2, 1.0]}) == (
        "choices must differ from each other: drop the second 1.0"
    )
    assert space(x={"type": "categorical", "choices": [True, 1, "1"]}).size() == 3


@pytest.mark.parametrize(
    "when,message",
    [
        ({"later": 1}, "`when` names 'later', which is not a parameter before it; those before it: kind, depth"),
        ({"kind": "c"}, "`when` waits for kind to be c, which is never sampled"),
        ({"kind": ["a", "c"]}, "`when` waits for kind to be c, which is never sampled"),
        ({"kind": []}, "`when` waits for kind to be one of nothing, which is never sampled"),
        ({"depth": 5}, "`when` waits for depth to be 5, which is never sampled"),
        ({"depth": "deep"}, "`when` waits for depth to be deep, which is never sampled"),
    ],
)
def test_conditions_that_cannot_hold_are_refused(when: dict[str, Any], message: str) -> None:
    found = complaint(
        kind={"type": "categorical", "choices": ["a", "b"]},
        depth={"type": "int", "low": 1, "high": 4},
        x={"type": "float", "low": 0, "high": 1, "when": when},
        later={"type": "int", "low": 1, "high": 2},
    )
    assert found == message


def test_the_first_parameter_has_nothing_to_depend_on() -> None:
    assert "those before it: none" in complaint(x={"type": "int", "low": 1, "high": 2, "when": {"y": 1}})


def test_conditions_decide_what_is_active() -> None:
    conditional = space(
        kind={"type": "categorical", "choices": ["a", "b", "c"]},
        one={"type": "int", "low": 1, "high": 2, "when": {"kind": "a"}},
        two={"type": "int", "low": 1, "high": 2, "when": {"kind": ["a", "b"]}},
        both={"type": "int", "low": 1, "high": 2, "when": {"kind": "a", "one": 2}},
    )

    def active(**chosen: ParameterValue) -> list[str]:
        return [name for name, _ in conditional.active(chosen)]

    assert active(kind="a", one=2) == ["kind", "one", "two", "both"]
    assert active(kind="a", one=1) == ["kind", "one", "two"]
    assert active(kind="b", one=2) == ["kind", "two"]
    assert active(kind="c") == active() == ["kind"]


def test_values_may_be_chosen_while_going_through_the_active_ones() -> None:
    conditional = space(
        kind={"type": "categorical", "choices": ["a", "b"]},
        x={"type": "int", "low": 1, "high": 2, "when": {"kind": "a"}},
    )
    chosen: dict[str, ParameterValue] = {}
    for name, _ in conditional.active(chosen):
        chosen[name] = "a" if name == "kind" else 1
    assert chosen == {"kind": "a", "x": 1}


@pytest.mark.parametrize(
    "parameter,count",
    [
        (CategoricalParameter(choices=["a", "b"]), 2),
        (IntParameter(low=1, high=9), 9),
        (IntParameter(low=1, high=9, step=3), 3),
        (IntParameter(low=1, high=64, log=True), 64),
        (IntParameter(low=5, high=5), 1),
        (FloatParameter(low=0.0, high=0.3, step=0.1), 4),
        (FloatParameter(low=0.1, high=0.35, step=0.1), 3),
        (FloatParameter(low=0.5, high=0.5), 1),
        (FloatParameter(low=0.0, high=1.0), None),
    ],
)
def test_values_are_counted(parameter: Parameter, count: int | None) -> None:
    assert value_count(parameter) == count


def test_the_size_is_the_product_and_endless_parameters_are_named() -> None:
    finite: dict[str, dict[str, Any]] = {
        "rank": {"type": "categorical", "choices": [4, 8, 16]},
        "depth": {"type": "int", "low": 1, "high": 4},
    }
    assert space(**finite).size() == 12
    assert space(**finite).endless() == []
    endless = space(**finite, rate={"type": "float", "low": 0, "high": 1})
    assert endless.size() is None
    assert endless.endless() == ["rate"]
    assert space().size() == 1


def test_equal_configurations_have_equal_keys() -> None:
    assert canonical_key({"a": 1, "b": 0.1 + 0.2}) == canonical_key({"b": 0.3, "a": 1})
    assert canonical_key({"rate": 1e-4}) == canonical_key({"rate": 0.0001})


@pytest.mark.parametrize(
    "one,other",
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": 1}),
        ({"a": 1e-4}, {"a": 1.00001e-4}),
    ],
)
def test_unlike_configurations_have_unlike_keys(
    one: dict[str, ParameterValue], other: dict[str, ParameterValue]
) -> None:
    assert canonical_key(one) != canonical_key(other)


def test_a_space_survives_json() -> None:
    before = space(
        kind={"type": "categorical", "choices": ["a", True, 2, 0.5]},
        rate={"type": "float", "low": 1e-5, "high": 1e-3, "log": True, "when": {"kind": ["a", 2]}},
    )
    assert SearchSpace.model_validate_json(before.model_dump_json()) == before


def test_values_that_the_space_cannot_propose_are_named() -> None:
    space = SearchSpace.model_validate(
        {
            "parameters": {
                "rate": {"type": "float", "low": 0.1, "high": 0.5},
                "kind": {"type": "categorical", "choices": ["a", "b"]},
            }
        }
    )
    assert space.outside({"rate": 0.3, "kind": "b", "other": 9}) == []
    assert space.outside({"rate": 0.7, "kind": "c"}) == [
        "rate 0.7 lies outside of what is searched, 0.1 to 0.5",
        "kind c lies outside of what is searched, a, b",
    ]
