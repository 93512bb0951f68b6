"""Whether a value lies in a range, and which of the range is nearest."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.search_space import CategoricalParameter, FloatParameter, IntParameter, Parameter
from hpo_service.domain.study.space.membership import middle_value, misfit, nearest_value

RANKS = CategoricalParameter(choices=[4, 8, 32])
WORDS = CategoricalParameter(choices=["cosine", "linear"])
FLAGS = CategoricalParameter(choices=[True, False])
SHARE = FloatParameter(low=0.0, high=0.5, step=0.1)
RATE = FloatParameter(low=1e-4, high=1e-2, log=True)
DEPTH = IntParameter(low=2, high=9, step=3)
WIDTH = IntParameter(low=1, high=64, log=True)


@pytest.mark.parametrize(
    "parameter,value,reason",
    [
        (RANKS, 8, ""),
        (RANKS, 16, "is none of its choices: 4, 8, 32"),
        (FLAGS, True, ""),
        (FLAGS, 1, "is none of its choices: True, False"),
        (SHARE, 0.3, ""),
        (SHARE, 0.35, "is not on its grid, every 0.1 from 0"),
        (RATE, 1, "lies outside of its range, 0.0001 to 0.01"),
        (RATE, "high", "is no number from 0.0001 to 0.01"),
        (RATE, True, "is no number from 0.0001 to 0.01"),
        (DEPTH, 5, ""),
        (DEPTH, 6, "is not on its grid, every 3 from 2"),
        (WIDTH, 2.5, "is no whole number"),
        (WIDTH, 64, ""),
    ],
)
def test_a_value_that_is_none_of_a_parameters_is_told_why(parameter: Parameter, value: object, reason: str) -> None:
    assert misfit(parameter, value) == reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parameter,value,nearest",
    [
        (RANKS, 8.0, 8),
        (RANKS, 16.1, 32),
        (RANKS, 15, 8),
        (RANKS, -1, 4),
        (RANKS, "all", 4),
        (WORDS, "linear", "linear"),
        (WORDS, "step", "cosine"),
        (WORDS, 3, "cosine"),
        (FLAGS, 1, True),
        (SHARE, 0.26, 0.3),
        (SHARE, 7, 0.5),
        (RATE, 5.0, 1e-2),
        (RATE, 2e-3, 2e-3),
        (RATE, "high", 1e-4),
        (DEPTH, 100, 8),
        (DEPTH, 3, 2),
        (WIDTH, 7.6, 8),
    ],
)
def test_the_nearest_value_is_one_of_the_parameters(parameter: Parameter, value: object, nearest: object) -> None:
    found = nearest_value(parameter, value)  # type: ignore[arg-type]
    assert found == nearest
    assert type(found) is type(nearest)
    assert misfit(parameter, found) == ""


def test_the_middle_is_that_of_the_scale() -> None:
    assert middle_value(RATE) == pytest.approx(1e-3)
    assert middle_value(WIDTH) == 8
    assert middle_value(SHARE) in (0.2, 0.3)
    assert middle_value(WORDS) == "cosine"
