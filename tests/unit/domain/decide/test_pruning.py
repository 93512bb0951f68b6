"""The rules that stop losers: rungs, ranks, divergence and their reasons."""

from __future__ import annotations

import math

import pytest

from hpo_service.domain.decide.pruning import (
    Measure,
    Verdict,
    diverged,
    halve,
    longest_warmup,
    rung_reached,
    rung_step,
    usable_rungs,
    value_at,
    values_at_rung,
)
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import CategoricalParameter, FloatParameter, Parameter, SearchSpace

LOSS = Measure()
SCORE = Measure("score", Direction.MAXIMIZE)


@pytest.mark.parametrize(
    "rung,evaluations,step",
    [(0.25, 8, 2), (0.5, 8, 4), (0.25, 10, 3), (0.25, 3, 1), (0.1, 30, 3), (0.3, 10, 3), (0.01, 8, 1), (0.5, 1, 1)],
)
def test_a_rung_is_the_first_evaluation_not_before_it(rung: float, evaluations: int, step: int) -> None:
    assert rung_step(rung, evaluations) == step


@pytest.mark.parametrize(
    "rungs,evaluations,warmup,steps",
    [
        ([0.25, 0.5], 8, 0.0, [2, 4]),
        ([0.25, 0.5], 8, 0.25, [2, 4]),
        ([0.25, 0.5], 8, 0.26, [4]),
        ([0.25, 0.5], 8, 0.51, []),
        ([0.25, 0.5], 10, 0.3, [3, 5]),
        ([0.25, 0.5], 2, 0.0, [1]),
        ([0.25, 0.5], 1, 0.0, []),
        ([0.3, 0.95], 8, 0.0, [3]),
        ([], 8, 0.0, []),
    ],
)
def test_rungs_in_the_warmup_and_at_the_very_end_are_left_out(
    rungs: list[float], evaluations: int, warmup: float, steps: list[int]
) -> None:
    assert usable_rungs(rungs, evaluations=evaluations, warmup=warmup) == steps


@pytest.mark.parametrize(
    "reported,step,rung",
    [
        ([1], 1, None),
        ([1, 2], 2, 2),
        ([1, 2, 3], 3, None),
        ([1, 3], 3, 2),
        ([4], 4, 4),
        ([1, 2, 3, 4, 5], 5, None),
        ([1, 2, 3], 2, 2),
        ([], 2, 2),
    ],
)
def test_a_rung_is_reached_by_the_first_report_at_or_after_it(reported: list[int], step: int, rung: int | None) -> None:
    assert rung_reached([2, 4], reported, step) == rung


def test_the_value_at_a_rung_is_the_first_from_there_on() -> None:
    curve = {3: 0.3, 1: 0.1, 5: 0.5}
    assert [value_at(curve, step) for step in (1, 2, 3, 4, 5, 6)] == [0.1, 0.3, 0.3, 0.5, 0.5, None]


@pytest.mark.parametrize(
    "parameter,default,longest",
    [
        (None, 0.03, 0.03),
        (FloatParameter(low=0.01, high=0.1), 0.3, 0.1),
        (CategoricalParameter(choices=[0.2, 0.05]), 0.03, 0.2),
        (CategoricalParameter(choices=["auto"]), 0.03, 0.03),
        (FloatParameter(low=0.01, high=0.1, when={"scheduler": "linear"}), 0.3, 0.3),
        (FloatParameter(low=0.01, high=0.4, when={"scheduler": "linear"}), 0.3, 0.4),
    ],
)
def test_the_longest_warmup_is_the_largest_anyone_may_draw(
    parameter: Parameter | None, default: float, longest: float
) -> None:
    parameters: dict[str, Parameter] = {"scheduler": CategoricalParameter(choices=["linear", "constant"])}
    if parameter is not None:
        parameters["warmup_ratio"] = parameter
    assert longest_warmup(SearchSpace(parameters=parameters), default=default) == longest


def test_the_better_half_goes_on() -> None:
    others = [3.0, 3.1, 3.102, 3.2, 3.3, 3.4, 3.05, 3.09]
    assert halve(3.214, others, share=0.25, measure=LOSS) == Verdict(
        True, "validation loss 3.214 at 25% of the epoch is 7th of 9; only the better half (up to 3.102) goes on"
    )
    assert halve(3.102, others, share=0.5, measure=LOSS) == Verdict(
        False, "validation loss 3.102 at 50% of the epoch is 5th of 9; the better half (up to 3.102) goes on"
    )


def test_an_odd_one_in_the_middle_goes_on() -> None:
    kept = [
        value
        for value in range(5)
        if not halve(value, [v for v in range(5) if v != value], share=0.5, measure=LOSS).prune
    ]
    assert kept == [0, 1, 2]


def test_more_is_better_where_it_is_said_to_be() -> None:
    verdict = halve(0.4, [0.5, 0.6, 0.7], share=0.25, measure=SCORE)
    assert verdict == Verdict(
        True, "score 0.4 at 25% of the epoch is 4th of 4; only the better half (from 0.6) goes on"
    )
    assert not halve(0.9, [0.5, 0.6, 0.7], share=0.25, measure=SCORE).prune


@pytest.mark.parametrize("others", [[], [1.0], [1.0, 1.0]])
def test_too_few_values_decide_nothing(others: list[float]) -> None:
    verdict = halve(9.0, others, share=0.25, measure=LOSS)
    assert not verdict.prune
    assert f"{len(others) + 1} of the 4 values" in verdict.reason


def test_equals_are_treated_equally() -> None:
    assert not halve(2.0, [2.0] * 9, share=0.25, measure=LOSS).prune
    assert halve(2.0, [1.0] * 5 + [2.0] * 4, share=0.25, measure=LOSS).prune


def test_a_peer_that_is_not_a_number_is_the_worst_of_all() -> None:
    assert not halve(9.0, [math.nan, math.nan, 1.0], share=0.25, measure=LOSS).prune
    assert not halve(-9.0, [math.nan, math.nan, 1.0], share=0.25, measure=SCORE).prune
    assert halve(math.nan, [3.0, 2.0, 1.0], share=0.25, measure=LOSS).prune


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_has_diverged(value: float) -> None:
    assert diverged(value, LOSS) == Verdict(True, f"diverged: validation loss is {value}")
    assert diverged(1e30, LOSS) is None


@pytest.mark.parametrize(
    "rank,word", [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd"), (113, "113th")]
)
def test_ranks_are_written_out(rank: int, word: str) -> None:
    others = [float(place) for place in range(150) if place != rank - 1]
    assert f"is {word} of 150" in halve(float(rank - 1), others, share=0.5, measure=LOSS).reason


def test_lost_trials_count_as_the_worst_at_the_first_rung() -> None:
    nan, rungs = float("nan"), [2, 4]
    curves = [({1: 3.0, 2: 2.0}, False), ({1: nan}, True), ({}, True), ({1: 3.0}, False), ({1: 3.0, 2: nan}, True)]
    found = values_at_rung(curves, rungs, 2)
    assert found[0] == 2.0
    assert len(found) == 4, "the one that is still on its way is left out"
    assert all(math.isnan(value) for value in found[1:])


def test_trials_stopped_at_an_earlier_rung_are_left_out_of_a_later_one() -> None:
    assert values_at_rung([({2: 2.0}, True), ({2: 1.0, 4: 0.5}, False)], [2, 4], 4) == [0.5]


def test_the_third_best_of_ten_goes_on_where_six_diverged() -> None:
    verdict = halve(2.0, [1.0, 1.5, 3.0, *[float("nan")] * 6], share=0.25, measure=Measure())
    assert not verdict.prune
    assert "3rd of 10" in verdict.reason
