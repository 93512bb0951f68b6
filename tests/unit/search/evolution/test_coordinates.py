"""Configurations as points: back and forth, whatever the parameters are."""

from __future__ import annotations

import numpy as np
import pytest

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    ParameterValue,
    SearchSpace,
)
from hpo_service.search.evolution.coordinates import Coordinates, Point

SPACE = SearchSpace(
    parameters={
        "flag": CategoricalParameter(choices=[True, 1, "one"]),
        "rank": CategoricalParameter(choices=[4, 8], when={"flag": [True, "one"]}),
        "rate": FloatParameter(low=1e-5, high=1e-2, log=True),
        "steps": IntParameter(low=10, high=100, step=10),
        "width": IntParameter(low=1, high=64, log=True),
        "depth": IntParameter(low=2, high=4),
        "drop": FloatParameter(low=0.0, high=0.5, when={"rank": 8}),
        "fixed": IntParameter(low=3, high=3),
    }
)


def drawn(seed: int) -> Point:
    draw, places = np.random.default_rng(seed), Coordinates(SPACE)
    choices = np.zeros((len(places.widths), places.widths.max()), dtype=bool)
    for row, width in enumerate(places.widths):
        choices[row, draw.integers(width)] = True
    return draw.random(places.numbers), choices


@pytest.mark.parametrize("seed", range(20))
def test_a_configuration_comes_back_from_its_point(seed: int) -> None:
    places = Coordinates(SPACE)
    given = places.configuration(drawn(seed))
    back = places.configuration(places.point(given, drawn(seed + 1000)))
    assert list(back) == [name for name, _ in SPACE.active(back)]
    assert back.keys() == given.keys()
    for name, value in given.items():
        assert type(back[name]) is type(value)
        assert back[name] == pytest.approx(value, rel=1e-9)


def test_numbers_of_few_values_are_choices_and_what_is_fixed_is_nothing() -> None:
    places = Coordinates(SPACE)
    assert places.widths.tolist() == [3, 2, 3], "flag, rank, depth"
    assert places.numbers == 4, "rate, steps, width, drop"
    assert places.dimensions == 7


def test_what_a_configuration_leaves_open_stays_where_it_was() -> None:
    places, otherwise = Coordinates(SPACE), drawn(1)
    given: dict[str, ParameterValue] = {"flag": 1, "rate": 1e-3, "steps": 50, "width": 8, "depth": 2, "fixed": 3}
    numbers, choices = places.point(given, otherwise)
    assert numbers[3] == otherwise[0][3], "drop does not apply"
    assert choices[1].tolist() == otherwise[1][1].tolist(), "rank does not apply"
    assert choices[0].tolist() == [False, True, False], "1 is not True"


def test_a_rounded_number_keeps_its_place_in_the_cell_it_was_drawn_from() -> None:
    space = SearchSpace(parameters={"steps": IntParameter(low=10, high=100, step=10)})
    places = Coordinates(space)
    otherwise = np.array([0.33, 0.5]), np.array([[True, False]])
    assert places.configuration(otherwise) == {"steps": 40}
    assert places.point({"steps": 40}, otherwise)[0][0] == 0.33
    assert places.point({"steps": 50}, otherwise)[0][0] == pytest.approx(0.45)


def test_a_space_that_lacks_numbers_or_choices_is_filled_up() -> None:
    choices = Coordinates(SearchSpace(parameters={"rank": CategoricalParameter(choices=[4, 8, 16])}))
    assert (choices.numbers, choices.widths.tolist(), choices.dimensions) == (2, [3], 1)
    numbers = Coordinates(SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)}))
    assert (numbers.numbers, numbers.widths.tolist(), numbers.dimensions) == (2, [2], 1)
