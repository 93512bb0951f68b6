"""When a run is lost, and when going on is not worth it."""

import json
import math
from dataclasses import asdict

import pytest

from hpo_service.training.run.history import History


def course_of(*losses):
    history = History()
    return [history.add_loss(loss) for loss in losses]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_a_number_is_lost_at_once(loss):
    assert course_of(2.0, loss)[-1] == f"diverged: the training loss became {loss}"


def test_a_loss_far_above_the_first_is_lost_at_once():
    assert course_of(2.0, 1.9, 20.0)[-1] == "diverged: the training loss 7.967 is more than 3 times the first, 2"


def test_one_odd_batch_does_not_end_a_run():
    assert course_of(2.0, 1.9, 1.8, 1.7, 7.0, 1.6) == [""] * 6


def test_noise_near_zero_is_not_divergence():
    assert course_of(0.01, 0.02, 0.05, 0.2) == [""] * 4


def test_an_evaluation_far_above_the_first_loss_or_without_a_value_is_lost():
    history = History()
    history.add_loss(2.0)
    assert history.add_value(5.9, 0.1, 0.0) == ""
    assert history.add_value(6.1, 0.2, 0.0).startswith("diverged: the validation loss 6.1 is more than 3 times")
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
    assert History(**json.loads(json.dumps(asdict(history)))) == history
