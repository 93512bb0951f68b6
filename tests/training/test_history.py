"""When a run is lost, and when going on is not worth it."""

import json
import math
from dataclasses import asdict
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.divergence import KINDS, delays, false_alarms
from hpo_service.training.run.divergence import chance
from hpo_service.training.run.history import History


def course_of(*losses):
    history = History()
    return [history.add_loss(loss) for loss in losses]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_a_number_is_lost_at_once(loss):
    assert course_of(2.0, loss)[-1] == f"diverged: the training loss became {loss}"


def first_said(losses):
    """The step at which a run is ended, from 1, or None."""
    return next((step for step, reason in enumerate(course_of(*losses), 1) if reason), None)


def test_a_loss_that_stays_far_above_the_first_ones_is_lost_within_eight_steps():
    calm = [2.0, 1.9] * 10
    reason = course_of(*calm, *[7.0] * 8)[-1]
    assert (
        reason == "diverged: the training loss of the last 8 steps, 7, is more than 3 times that of the first 20, 1.95"
    )
    assert first_said([*calm, *[7.0] * 40]) == 28
    assert first_said([*calm, *calm, *[25.0] * 40]) == 45


def test_a_loss_that_grows_without_end_is_lost_however_slowly_it_began():
    for begin in (6, 10, 30):
        rising = [2.0 * 1.1**step for step in range(80)]
        assert first_said([*[2.0, 2.1] * (begin // 2), *rising]) is not None


def test_a_spike_that_comes_back_ends_nothing():
    assert first_said([*[2.0, 2.1] * 20, 20.0, 30.0, 9.0, 7.0, *[2.1] * 60]) is None


@pytest.mark.parametrize("kind", KINDS)
def test_single_rows_of_any_spread_do_not_end_a_healthy_run(kind):
    assert false_alarms(kind, runs=10_000, steps=100, cv=1.2) < 0.001
    assert false_alarms(kind, runs=2_000, steps=120, cv=1.2, fall=0.5) < 0.001


@pytest.mark.parametrize("batch, most", [(1, 20), (4, 9), (16, 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_ten_times_the_level_is_seen_soon_through_the_spread_of_few_rows(kind, batch, most):
    assert np.median(delays(kind, runs=200, cv=1.2, batch=batch, times=10.0)) <= most


@given(st.lists(st.floats(0.0, 10.0), min_size=2, max_size=4), st.lists(st.floats(0.0, 10.0), min_size=1, max_size=4))
def test_the_rank_test_counts_every_order(before, after):
    orders = list(permutations(range(len(before) + len(after)), len(after)))
    above = sum(later > earlier for later in after for earlier in before)

    def pairs(places):
        return sum(place > other for place in places for other in set(range(len(before) + len(after))) - set(places))

    share = sum(pairs(places) >= above for places in orders) / len(orders)
    assert chance(before, after) == pytest.approx(share)


def test_one_odd_batch_does_not_end_a_run():
    assert course_of(2.0, 1.9, 1.8, 1.7, 7.0, 1.6) == [""] * 6


def test_noise_near_zero_is_not_divergence():
    assert course_of(0.01, 0.02, 0.05, 0.2) == [""] * 4


def test_an_evaluation_far_above_the_first_ones_or_without_a_value_is_lost():
    history = History()
    history.add_loss(0.2)
    # what is hard for a base from the start has not diverged
    assert history.add_value(2.0, 0.1, 0.0) == ""
    assert history.add_value(5.9, 0.1, 0.0) == ""
    assert history.add_value(1.9, 0.1, 0.0) == ""
    assert history.add_value(6.1, 0.2, 0.0) == "diverged: the validation loss 6.1 is more than 3 times that at first, 2"
    assert history.add_value(math.nan, 0.3, 0.0) == "diverged: the validation loss became nan"
    assert history.value == 6.1


def test_patience_counts_evaluations_without_enough_improvement():
    history = History()
    answers = []
    for value in (1.0, 0.9995, 0.9992, 0.9989, 0.9985, 0.9984, 0.9983):
        history.add_value(value, 0.1, 0.001)
        answers.append(history.exhausted(3, 0.001))
    # 0.9989 is 0.0011 below 1.0: small steps add up to an improvement
    assert answers == ["", "", "", "", "", "", "no improvement of 0.001 in 3 evaluations"]
    assert history.best == 0.9983


def test_a_patience_of_zero_never_ends_a_run():
    history = History()
    for _ in range(50):
        history.add_value(1.0, 0.1, 0.001)
    assert history.exhausted(0, 0.001) == ""


def test_the_training_loss_is_the_mean_since_the_last_report():
    history = History()
    for loss in (1.0, 2.0, 3.0):
        history.add_loss(loss)
    assert history.take_train_loss() == 2.0
    assert math.isnan(history.take_train_loss())


def test_a_course_survives_json_exactly():
    history = History()
    history.add_loss(1 / 3)
    history.add_value(2 / 3, 0.25, 0.001)
    assert History.read(json.loads(json.dumps(asdict(history)))) == history


def test_what_an_earlier_version_has_stored_is_gone_on_with():
    stored = {"first_loss": 2.0, "recent": [2.0, 1.9], "best": 1.5, "history": [[0.5, 1.5]], "of_the_future": 1}
    history = History.read(stored)
    assert (history.best, history.history, history.recent) == (1.5, [[0.5, 1.5]], [2.0, 1.9])
    assert [history.add_loss(loss) for loss in [1.5] * 50] == [""] * 50


def test_the_value_is_that_of_all_rows_and_everything_is_compared_on_those_that_are_watched():
    history = History()
    history.add_value(2.0, 0.5, 0.0)
    assert history.add_value(1.5, 1.0, 0.0, 6.5) == ""
    assert (history.value, history.best, history.without_improvement) == (6.5, 1.5, 0)
    assert history.history == [[0.5, 2.0], [1.0, 1.5]]


def test_a_loss_that_is_lost_on_all_rows_ends_the_run():
    assert History().add_value(2.0, 1.0, 0.0, math.inf) == "diverged: the validation loss became inf"
