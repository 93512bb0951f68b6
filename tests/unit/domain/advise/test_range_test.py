"""A range test stops where the loss diverges and suggests a rate between its steepest fall and its lowest."""

import math

import numpy as np
import pytest

from hpo_service.domain.advise.range_test import Ramp, RangeTest, suggest_of_sweep

DEFAULT = Ramp()


def run(loss_at, ramp=DEFAULT):
    """A test over losses by rate, and why it ended."""
    test = RangeTest(ramp)
    for step in range(ramp.steps):
        stopped = test.add(loss_at(ramp.rate(step)))
        if stopped:
            return test, stopped
    return test, ""


def valley(best, depth=1.0, first=3.0, after=4.0):
    """Losses that begin to fall two decades below `best` and rise steeply behind it."""

    def loss(rate):
        place = math.log10(rate / best)
        return first - depth * min(1.0, max(0.0, 1 + place / 2)) + after * max(0.0, place)

    return loss


@pytest.mark.parametrize("steps", [60, 120, 400])
@pytest.mark.parametrize("best", [1e-4, 2e-2])
def test_the_suggestion_lies_within_a_factor_of_three_of_the_valley(best, steps):
    test, stopped = run(valley(best), Ramp(steps=steps))
    suggestion = test.suggest()
    assert stopped
    assert best / 3 < suggestion.rate < best * 3
    assert suggestion.steepest < suggestion.rate < suggestion.lowest
    assert "halfway" in suggestion.reason


@pytest.mark.parametrize(
    "loss, words",
    [
        (valley(1e-3), "has given back half of its fall"),
        (valley(1e-3, depth=0.0), "1.3 times its first"),
        (lambda rate: 0.1 if rate < 1e-3 else 500.0, "is more than 4 times its best"),
        (lambda rate: 3.0 if rate < 1e-3 else math.nan, "the loss became nan at a rate of"),
    ],
)
def test_it_stops_when_the_loss_diverges(loss, words):
    test, stopped = run(loss)
    assert words in stopped
    assert len(test.losses) < test.ramp.steps


@pytest.mark.parametrize(
    "loss, words",
    [
        (lambda _rate: math.inf, "begin lower"),
        (lambda rate: 3.0 + rate * 1e3, "begin lower"),
        (lambda rate: 3.0 if rate < 2e-6 else 30.0, "begin lower"),
        (lambda rate: 3.0 - 0.01 * math.log10(rate / 1e-6) / 6, "at best, which may be chance"),
        (lambda rate: 3.0 - math.log10(rate / 1e-6) / 6, "still falls at 1: go on higher"),
    ],
)
def test_where_no_rate_can_be_told_it_says_what_to_do(loss, words):
    suggestion = run(loss)[0].suggest()
    assert suggestion.rate is None
    assert words in suggestion.reason


def test_noise_at_the_beginning_neither_stops_it_nor_counts_as_a_gain():
    drawn = np.random.default_rng(5).normal(size=DEFAULT.steps)
    losses = iter(6.0 + 0.6 * drawn)
    test, stopped = run(lambda _rate: float(next(losses)))
    assert (stopped, test.suggest().rate) == ("", None)


@pytest.mark.parametrize("seed", range(10))
def test_noise_moves_the_suggestion_by_less_than_a_factor_of_three(seed):
    drawn, clean = iter(np.random.default_rng(seed).normal(size=DEFAULT.steps)), valley(1e-3)
    suggestion = run(lambda rate: clean(rate) + 0.1 * float(next(drawn)))[0].suggest()
    assert suggestion.rate is not None
    assert 1e-3 / 3 < suggestion.rate < 3e-3


def test_a_spike_of_one_step_does_not_stop_it():
    ramp = Ramp()
    test, stopped = run(lambda rate: 5.0 if rate == ramp.rate(40) else 3.0, ramp)
    assert (stopped, len(test.losses)) == ("", ramp.steps)
    assert test.rates[-1] == pytest.approx(1.0)


def test_a_sweep_suggests_its_lowest_and_says_when_that_lies_at_the_edge():
    assert suggest_of_sweep({1e-4: 2.0, 3e-4: 1.5, 1e-3: None}).rate == 3e-4
    assert "a higher one may be better" in suggest_of_sweep({1e-4: 2.0, 3e-4: 1.5}).reason
    assert "a lower one may be better" in suggest_of_sweep({1e-4: 1.0, 3e-4: 1.5}).reason
    assert "edge" not in suggest_of_sweep({1e-4: 2.0}).reason
    assert suggest_of_sweep({1e-4: None}).rate is None
