"""What holds of every recommendation, whatever the model, the rows and the card."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.advise.guides import TASKS
from hpo_service.domain.advise.range_test import Ramp, RangeTest
from hpo_service.domain.advise.recommendation import Situation, recommend
from hpo_service.domain.memory.fit import REFUSED_ABOVE
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.errors import DoesNotFitError
from tests.unit.domain.advise.shapes import CONFIGS, shape

SITUATIONS = st.builds(
    Situation,
    shape=st.sampled_from(sorted(CONFIGS)).map(shape),
    rows=st.integers(1, 10**7),
    length=st.integers(8, 16_384),
    task=st.sampled_from(sorted(TASKS)),
    gpu_gb=st.none() | st.floats(1, 200),
    gpus=st.integers(1, 9),
)


@given(SITUATIONS)
def test_it_fits_the_card_and_is_a_training_section_or_says_why_nothing_fits(situation: Situation) -> None:
    found = None
    with suppress(DoesNotFitError):
        found = recommend(situation)
    if found is None:
        assert situation.gpu_gb is not None
        return
    training, plan = TrainingSpec.model_validate(found.training), found.plan
    assert plan.micro_batch * plan.accumulation * situation.gpus == training.effective_batch
    assert situation.gpu_gb is None or plan.needed_gb <= REFUSED_ABOVE * situation.gpu_gb
    usual = METHODS[training.method].rates
    assert usual.low <= training.learning_rate <= usual.high
    assert all(each.reason and each.source for each in found.advice)


@given(st.lists(st.floats(0.01, 20), min_size=1, max_size=80), st.integers(20, 200))
def test_a_range_test_suggests_a_rate_that_was_tried_or_says_what_to_do(losses: list[float], steps: int) -> None:
    test = RangeTest(Ramp(steps=steps))
    for loss in losses[:steps]:
        if test.add(loss):
            break
    suggestion = test.suggest()
    assert suggestion.reason
    if suggestion.rate is not None:
        assert suggestion.steepest is not None
        assert suggestion.lowest is not None
        assert suggestion.steepest <= suggestion.rate * (1 + 1e-9)
        assert suggestion.rate <= suggestion.lowest * (1 + 1e-9) <= test.rates[-1] * (1 + 1e-6)
    else:
        assert any(mark in suggestion.reason for mark in ("--low", "--high", "--steps"))


def test_the_smallest_ramp_is_smoothed_too() -> None:
    assert Ramp(steps=20).smoothing == pytest.approx(0.5)
