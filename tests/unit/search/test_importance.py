"""What mattered in a search."""

from __future__ import annotations

import math
import random

import pytest

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import CategoricalParameter, FloatParameter, ParameterValue, SearchSpace
from hpo_service.search.importance import importances

SPACE = SearchSpace(
    parameters={
        "rate": FloatParameter(low=1e-5, high=1e-2, log=True),
        "rank": CategoricalParameter(choices=[4, 8, 16]),
        "dropout": FloatParameter(low=0.0, high=0.1),
        "one": CategoricalParameter(choices=["only"]),
    }
)


def measured(count: int = 60) -> list[tuple[dict[str, ParameterValue], float]]:
    draw = random.Random(3)
    found = []
    for _ in range(count):
        rate = 10 ** draw.uniform(-5, -2)
        parameters: dict[str, ParameterValue] = {
            "rate": rate,
            "rank": draw.choice([4, 8, 16]),
            "dropout": draw.uniform(0, 0.1),
            "one": "only",
        }
        found.append((parameters, abs(math.log10(rate) + 3.3) + 0.01 * draw.random()))
    return found


@pytest.mark.parametrize("direction", Direction)
def test_the_parameter_that_decides_comes_first_and_the_shares_sum_to_one(direction: Direction) -> None:
    sign = -1.0 if direction.maximize else 1.0
    shares = importances(SPACE, direction, [(parameters, sign * value) for parameters, value in measured()])
    assert next(iter(shares)) == "rate"
    assert shares["rate"] > 0.7
    assert sum(shares.values()) == pytest.approx(1.0)
    assert "one" not in shares, "what has one value decides nothing"


def test_a_parameter_that_does_not_always_apply_is_looked_at_where_it_does() -> None:
    with_mode = {
        "mode": CategoricalParameter(choices=["a", "b"]),
        **SPACE.parameters,
        "dropout": FloatParameter(low=0.0, high=0.1, when={"mode": "a"}),
    }
    told = []
    for place, (parameters, value) in enumerate(measured()):
        mode = "ab"[place % 2]
        kept = {k: v for k, v in parameters.items() if k != "dropout" or mode == "a"}
        told.append(({"mode": mode, **kept}, value))
    shares = importances(SearchSpace(parameters=with_mode), Direction.MINIMIZE, told)
    assert set(shares) == {"mode", "rate", "rank", "dropout"}
    assert next(iter(shares)) == "rate"


def test_parameters_of_conditions_that_exclude_each_other_are_each_looked_at() -> None:
    space = SearchSpace(
        parameters={
            "mode": CategoricalParameter(choices=["a", "b"]),
            "x": FloatParameter(low=0.0, high=1.0, when={"mode": "a"}),
            "y": FloatParameter(low=0.0, high=1.0, when={"mode": "b"}),
        }
    )
    draw = random.Random(5)
    told: list[tuple[dict[str, ParameterValue], float]] = []
    for place in range(60):
        mode, name = ("a", "x") if place % 2 else ("b", "y")
        value = draw.random()
        told.append(({"mode": mode, name: value}, value))
    assert set(importances(space, Direction.MINIMIZE, told)) == {"mode", "x", "y"}


def test_where_all_is_equal_or_hardly_anything_was_measured_nothing_is_said() -> None:
    assert importances(SPACE, Direction.MINIMIZE, [(parameters, 1.0) for parameters, _ in measured()]) == {}
    assert importances(SPACE, Direction.MINIMIZE, measured(3)) == {}
    assert importances(SPACE, Direction.MINIMIZE, []) == {}
