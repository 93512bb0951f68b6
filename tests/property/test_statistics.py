"""What holds for every comparison, whatever was measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_service.domain.decide.statistics import FEWEST_ROWS, compare, compare_values, t_quantile
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.scores import Scores

VALUES = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=6)
LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@st.composite
def sides(draw: st.DrawFn) -> tuple[list[Scores], list[Scores]]:
    tokens = draw(st.lists(st.integers(1, 50), min_size=1, max_size=12))
    losses = st.lists(st.floats(0.01, 100.0), min_size=len(tokens), max_size=len(tokens))

    def one() -> list[Scores]:
        return [Scores(nll=draw(losses), tokens=tokens) for _ in range(draw(st.integers(1, 4)))]

    return one(), one()


@given(sides(), LEVELS)
@settings(max_examples=60, deadline=None)
def test_a_comparison_of_rows_is_finite_and_ordered(both: tuple[list[Scores], list[Scores]], level: float) -> None:
    found = compare(*both, confidence=level, resamples=200)
    assert math.isfinite(found.improvement)
    assert found.seeds == min(map(len, both))
    if found.seeds == 1 or found.examples < FEWEST_ROWS:
        assert found.low is None
        assert not found.distinguishable
    else:
        assert found.low <= found.high
        assert found.distinguishable == (found.low > 0 or found.high < 0)


@given(sides())
@settings(max_examples=30, deadline=None)
def test_a_configuration_is_not_distinguishable_from_itself(both: tuple[list[Scores], list[Scores]]) -> None:
    side = both[0]
    found = compare(side, side, resamples=200)
    assert found.improvement == 0
    assert not found.distinguishable


@given(VALUES, VALUES, LEVELS, st.booleans())
def test_a_comparison_of_values_holds_its_improvement_in_the_middle(
    baseline: list[float], candidate: list[float], level: float, maximize: bool
) -> None:
    direction = Direction.MAXIMIZE if maximize else Direction.MINIMIZE
    found = compare_values(baseline, candidate, confidence=level, direction=direction)
    better = found.candidate > found.baseline if maximize else found.candidate < found.baseline
    assert (found.improvement > 0) == better or found.improvement == 0
    if min(len(baseline), len(candidate)) == 1 or len(set(baseline)) == len(set(candidate)) == 1:
        assert found.low is None
    elif found.low is not None:  # differences below the smallest number leave no spread to speak of
        assert found.low <= found.improvement <= found.high
        width = max(abs(found.low), abs(found.high), 1.0)
        assert (found.low + found.high) / 2 == pytest.approx(found.improvement, abs=1e-6 * width)


@given(VALUES, VALUES)
def test_maximising_is_minimising_the_negated_values(baseline: list[float], candidate: list[float]) -> None:
    up = compare_values(baseline, candidate, direction=Direction.MAXIMIZE)
    down = compare_values([-v for v in baseline], [-v for v in candidate])
    assert up.improvement == pytest.approx(down.improvement)


@given(st.floats(0.51, 0.999), st.floats(1, 1e4), st.floats(1.01, 3))
@settings(max_examples=50, deadline=None)
def test_t_quantiles_rise_with_probability_and_fall_with_freedom(probability: float, freedom: float, by: float) -> None:
    here = t_quantile(probability, freedom)
    assert 0 < here < t_quantile(probability + (1 - probability) / 2, freedom)
    assert t_quantile(probability, freedom * by) < here * (1 + 1e-6)
