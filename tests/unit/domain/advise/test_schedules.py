"""Every schedule begins low where it warms up, reaches its peak, and never exceeds it."""

import pytest

from hpo_service.domain.advise.schedules import NEVER_WARMS_UP, SHAPES, Place, rates
from hpo_service.domain.study.hyperparameters import Hyperparameters


def drawn(name, steps=100, **given):
    return rates(Hyperparameters(scheduler=name, learning_rate=1.0, **given), steps)


@pytest.mark.parametrize("name", SHAPES)
def test_the_peak_is_reached_after_the_warm_up_and_never_exceeded(name):
    found = drawn(name, warmup_ratio=0.1)
    assert found[0] == (1.0 if name in NEVER_WARMS_UP else 0.0)
    assert found[10] == 1.0 == max(found)
    assert min(found) >= 0.0


@pytest.mark.parametrize(
    "name, last", [("cosine_with_min_lr", 0.1), ("exponential", 0.1), ("warmup_stable_decay", 0.12), ("linear", 0.01)]
)
def test_it_ends_where_its_settings_say(name, last):
    assert drawn(name, warmup_ratio=0.0)[-1] == pytest.approx(last, abs=0.04)


def test_restarts_begin_again_and_end_at_nothing():
    assert drawn("cosine_with_restarts", warmup_ratio=0.0, scheduler_cycles=4)[25] == 1.0
    hyper = Hyperparameters()
    assert SHAPES["cosine_with_restarts"](hyper, Place(10, 0, 10)) == 0.0
