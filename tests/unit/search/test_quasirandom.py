"""The Halton sequence: even, stateless, and mapped onto parameters."""

from __future__ import annotations

import math
from itertools import islice
from random import Random

import pytest

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    ParameterValue,
    SearchSpace,
)
from hpo_service.search.quasirandom import halton, value_of


def points(dimensions: int, count: int, seed: int = 0, start: int = 0) -> list[list[float]]:
    space = SearchSpace(parameters={f"x{i}": FloatParameter(low=0, high=1) for i in range(dimensions)})
    return [
        [float(value) for value in configuration.values()]
        for configuration in islice(halton(space, seed=seed, start=start), count)
    ]


def test_a_sequence_begun_later_is_the_same_sequence() -> None:
    assert points(3, 5, start=4) == points(3, 9)[4:]


def test_the_seed_scrambles() -> None:
    assert points(2, 4, seed=1) != points(2, 4, seed=2)


@pytest.mark.parametrize("base,dimension", [(2, 0), (3, 1), (5, 2), (7, 3)])
def test_each_block_of_points_fills_every_cell_of_its_base(base: int, dimension: int) -> None:
    found = points(4, base**2)
    cells = sorted(int(point[dimension] * base**2) for point in found)
    assert cells == list(range(base**2))


def test_pairs_are_spread_more_evenly_than_at_random() -> None:
    def empty_cells(sample: list[list[float]]) -> int:
        return 64 - len({(int(8 * x), int(8 * y)) for x, y in sample})

    generator = Random(0)
    at_random = [[generator.random(), generator.random()] for _ in range(96)]
    assert empty_cells(points(2, 96)) < empty_cells(at_random)


@pytest.mark.parametrize(
    "parameter,share,expected",
    [
        (CategoricalParameter(choices=["a", "b", "c"]), 0.34, "b"),
        (CategoricalParameter(choices=["a", "b", "c"]), 0.999999, "c"),
        (IntParameter(low=2, high=8, step=2), 0.3, 4),
        (IntParameter(low=1, high=100, log=True), 0.0, 1),
        (IntParameter(low=1, high=100, log=True), 0.999999, 100),
        (FloatParameter(low=1.0, high=3.0), 0.25, 1.5),
        (FloatParameter(low=0.1, high=0.3, step=0.1), 0.5, 0.2),
        (FloatParameter(low=1e-4, high=1e-2, log=True), 0.5, 1e-3),
        (FloatParameter(low=7.0, high=7.0, log=True), 0.5, 7.0),
    ],
)
def test_a_share_of_the_range_becomes_a_value(
    parameter: CategoricalParameter | IntParameter | FloatParameter, share: float, expected: ParameterValue
) -> None:
    value = value_of(parameter, share)
    if isinstance(expected, float):
        assert isinstance(value, float)
        assert math.isclose(value, expected, rel_tol=1e-6)
    else:
        assert value == expected


def test_whole_numbers_on_a_log_scale_get_their_share_of_it() -> None:
    parameter = IntParameter(low=1, high=8, log=True)
    found = [value_of(parameter, (place + 0.5) / 1000) for place in range(1000)]
    counts = [found.count(value) for value in range(1, 9)]
    assert sum(counts) == 1000
    assert counts == sorted(counts, reverse=True)
