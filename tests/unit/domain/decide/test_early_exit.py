"""Leaving early by the curve: where it leads, what peers gained, and in which words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hpo_service.domain.decide.early_exit import Outlook, best_until, exit_early, look_back, stretch
from hpo_service.domain.decide.pruning import Measure
from hpo_service.domain.study.direction import Direction

LOSS = Measure()
SCORE = Measure("score", Direction.MAXIMIZE)
FLAT = Outlook(best=3.0, before=3.0, earlier=3.1, step=6, evaluations=12, target=2.0, gains=(), there=())


def verdict(outlook: Outlook, measure: Measure = LOSS) -> tuple[bool, str]:
    found = exit_early(measure.direction.signed(outlook.best), outlook, share=0.5, measure=measure)
    return found.prune, found.reason


@pytest.mark.parametrize("step,length", [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (8, 3), (30, 10)])
def test_a_stretch_is_a_third_of_the_way(step: int, length: int) -> None:
    assert stretch(step) == length
    assert look_back(step) == (step - length, step - 2 * length)


def test_a_curve_that_does_not_slow_down_goes_on_at_its_slope() -> None:
    steady = replace(FLAT, best=3.0, before=3.2, earlier=3.4)
    assert steady.reach == pytest.approx(3.0 - 0.2 * 3)
    assert replace(steady, earlier=None).reach == steady.reach


def test_a_curve_that_slows_down_leads_where_the_better_of_exponential_and_power_law_leads() -> None:
    slowing = replace(FLAT, best=3.0, before=3.1, earlier=3.3)
    exponential = 0.1 * (0.5 + 0.25 + 0.125)
    power = 0.1 * math.log(2) / math.log(6 / 4)
    assert slowing.reach == pytest.approx(3.0 - max(exponential, power))
    nearly_steady = replace(FLAT, best=3.0, before=3.1, earlier=3.1 + 0.1 / 0.9, evaluations=8)
    assert nearly_steady.reach == pytest.approx(3.0 - 0.1 * 0.9)


def test_a_curve_that_gained_nothing_leads_nowhere() -> None:
    assert FLAT.reach == 3.0


def test_who_is_flat_and_in_the_worse_half_is_stopped_with_the_reason() -> None:
    assert verdict(replace(FLAT, there=(2.0, 2.5, 2.9))) == (
        True,
        "validation loss 3 at 50% of the epoch: stops, its curve leads to 3, short of the best, 2; it is 4th of 4 here",
    )


def test_who_is_flat_in_the_better_half_goes_on_while_too_few_have_ended() -> None:
    assert verdict(replace(FLAT, there=(2.0, 3.5, 3.9), gains=(0.5,))) == (
        False,
        "validation loss 3 at 50% of the epoch: goes on, its curve leads to 3, short of the best, 2; it is 2nd of 4"
        " here, and 0 of 1 that ended gained from here what it lacks",
    )


def test_two_that_ended_without_gaining_as_much_are_enough() -> None:
    prune, reason = verdict(replace(FLAT, there=(2.0, 3.5, 3.9), gains=(0.5, 0.9)))
    assert prune
    assert reason.endswith("it is 2nd of 4 here, and 0 of 2 that ended gained from here what it lacks")


@pytest.mark.parametrize("gaining,stopped", [(0, True), (1, False), (2, False)])
def test_who_may_gain_as_others_did_goes_on(gaining: int, stopped: bool) -> None:
    gains = [1.0] * gaining + [0.1] * (4 - gaining)
    assert verdict(replace(FLAT, there=(2.0, 3.5, 3.9), gains=gains))[0] is stopped


def test_whose_curve_leads_past_the_best_goes_on_whatever_the_peers() -> None:
    falling = replace(FLAT, best=3.0, before=3.4, earlier=3.8, there=(2.0,) * 9, gains=(0.0,) * 9)
    assert verdict(falling) == (
        False,
        "validation loss 3 at 50% of the epoch: goes on, its curve may lead to 1.8 and past the best, 2",
    )


def test_the_best_is_never_stopped() -> None:
    prune, reason = verdict(replace(FLAT, best=2.0, there=(2.0,) * 9, gains=(0.0,) * 9))
    assert not prune
    assert "none is better than its best, 2" in reason


def test_a_worse_half_needs_four() -> None:
    assert not replace(FLAT, there=(1.0, 2.0)).behind
    assert replace(FLAT, there=(1.0, 2.0, 4.0)).behind
    assert not replace(FLAT, there=(1.0, 4.0, 4.0)).behind


def test_alone_and_at_the_first_evaluation_nobody_is_stopped() -> None:
    assert "no other trial" in verdict(replace(FLAT, target=None))[1]
    early = replace(FLAT, step=1, before=None, earlier=None, there=(1.0,) * 9, gains=(0.0,) * 9)
    prune, reason = verdict(early)
    assert not prune
    assert "no slope yet" in reason


def test_where_more_is_better_values_are_told_as_they_are() -> None:
    badness = replace(FLAT, best=-0.3, before=-0.3, earlier=-0.2, target=-0.5, there=(-0.5, -0.4, -0.35))
    prune, reason = verdict(badness, SCORE)
    assert prune
    assert reason.startswith("score 0.3 at 50% of the epoch: stops, its curve leads to 0.3, short of the best, 0.5")


def test_the_best_until_an_evaluation_knows_the_direction() -> None:
    curve = {1: 0.2, 2: 0.5, 3: 0.1}
    assert best_until(curve, 2, LOSS) == 0.2
    assert best_until(curve, 2, SCORE) == -0.5
    assert best_until(curve, 0, LOSS) is None
