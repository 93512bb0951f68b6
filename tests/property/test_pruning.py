"""Halving on any values at all: the best is safe, better is never treated worse, half goes on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.decide.early_exit import Outlook, best_until, exit_early, look_back
from hpo_service.domain.decide.pruning import MIN_RUNG_VALUES, Measure, halve, rung_reached, usable_rungs
from hpo_service.domain.study.direction import Direction

VALUES = st.floats(allow_nan=True, allow_infinity=True, width=32)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
MEASURES = st.sampled_from([Measure(), Measure("score", Direction.MAXIMIZE)])
FRACTIONS = st.floats(min_value=0.001, max_value=0.999)


@given(FINITE, st.lists(VALUES, max_size=30), MEASURES, FRACTIONS)
def test_every_verdict_has_a_reason_in_one_line(
    value: float, others: list[float], measure: Measure, share: float
) -> None:
    reason = halve(value, others, share=share, measure=measure).reason
    assert reason
    assert "\n" not in reason


@given(st.lists(FINITE, min_size=1, max_size=30), MEASURES)
def test_the_best_so_far_is_never_stopped(values: list[float], measure: Measure) -> None:
    best = min(values, key=measure.badness)
    others = list(values)
    others.remove(best)
    assert not halve(best, others, share=0.25, measure=measure).prune


@given(FINITE, FINITE, st.lists(VALUES, max_size=30), MEASURES)
def test_the_better_of_two_never_stops_where_the_worse_goes_on(
    one: float, other: float, peers: list[float], measure: Measure
) -> None:
    better, worse = sorted((one, other), key=measure.badness)
    if halve(better, peers, share=0.5, measure=measure).prune:
        assert halve(worse, peers, share=0.5, measure=measure).prune


@given(st.lists(FINITE, min_size=MIN_RUNG_VALUES, max_size=30, unique=True), MEASURES)
def test_exactly_the_better_half_of_a_full_rung_goes_on(values: list[float], measure: Measure) -> None:
    kept = []
    for index, value in enumerate(values):
        others = values[:index] + values[index + 1 :]
        if not halve(value, others, share=0.5, measure=measure).prune:
            kept.append(value)
    half = sorted(values, key=measure.badness)[: math.ceil(len(values) / 2)]
    assert sorted(kept) == sorted(half)


@given(st.lists(FINITE, min_size=MIN_RUNG_VALUES - 1, max_size=20), FINITE, FINITE)
def test_a_worse_peer_never_makes_things_worse(peers: list[float], value: float, worse: float) -> None:
    if worse >= value and not halve(value, peers, share=0.5, measure=Measure()).prune:
        assert not halve(value, [*peers, worse], share=0.5, measure=Measure()).prune


@given(
    st.lists(FRACTIONS, max_size=5, unique=True),
    st.integers(min_value=1, max_value=60),
    st.floats(min_value=0, max_value=0.99),
)
def test_rungs_lie_between_the_warmup_and_the_end(rungs: list[float], evaluations: int, warmup: float) -> None:
    steps = usable_rungs(rungs, evaluations=evaluations, warmup=warmup)
    assert steps == sorted(set(steps))
    assert all(1 <= step < evaluations for step in steps)
    assert all(step / evaluations >= warmup - 1e-6 for step in steps)


@given(st.sets(st.integers(1, 20), max_size=4), st.sets(st.integers(1, 20), min_size=1, max_size=20))
def test_every_rung_below_the_last_report_was_reached_once(rungs: set[int], reported: set[int]) -> None:
    steps, reports = sorted(rungs), sorted(reported)
    reached = [rung_reached(steps, reports[: index + 1], step) for index, step in enumerate(reports)]
    found = [rung for rung in reached if rung is not None]
    assert found == sorted(set(found))
    below = [rung for rung in steps if rung <= reports[-1]]
    assert (below[-1:] == found[-1:]) or (not below and not found)


def test_the_measure_knows_only_two_directions() -> None:
    assert Measure("score", Direction.MAXIMIZE).badness(2.0) == -2.0
    assert Measure().badness(2.0) == 2.0
    assert Measure().badness(math.nan) == math.inf == Measure("score", Direction.MAXIMIZE).badness(math.nan)
    assert pytest.approx(0.1) == Measure().badness(0.1)


BADNESS = st.floats(min_value=-1e6, max_value=1e6)


@given(
    st.lists(BADNESS, min_size=1, max_size=40),
    st.integers(0, 60),
    BADNESS,
    st.lists(BADNESS, max_size=12),
    st.lists(BADNESS, max_size=12),
    MEASURES,
)
def test_an_early_exit_is_told_in_one_line_and_never_the_best_ones(
    curve: list[float], more: int, target: float, gains: list[float], there: list[float], measure: Measure
) -> None:
    told = dict(enumerate(map(measure.direction.signed, curve), start=1))
    step = len(told)
    before, earlier = (best_until(told, at, measure) for at in look_back(step))
    outlook = Outlook(min(curve), before, earlier, step, step + more, target, gains, there)
    verdict = exit_early(told[step], outlook, share=0.5, measure=measure)
    assert verdict.reason
    assert "\n" not in verdict.reason
    if min(curve) <= target:
        assert not verdict.prune
    if before is not None:
        assert outlook.reach <= outlook.best
    if verdict.prune:
        worse = Outlook(min(curve), before, earlier, step, step + more, target - 1.0, gains, there)
        assert exit_early(told[step], worse, share=0.5, measure=measure).prune, "a better rival never lets it go on"
