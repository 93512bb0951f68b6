"""The arithmetic of a run: nothing rounded away, evaluations at the same fractions whatever the batch."""

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.memory.micro_batches import micro_batch
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.training.run.steps import StepPlan

SPECS = st.builds(
    TrainingSpec,
    effective_batch=st.integers(1, 300),
    epochs=st.integers(1, 5),
    evaluations_per_epoch=st.integers(1, 40),
    micro_batch=st.none() | st.integers(1, 64),
    warmup_ratio=st.floats(0, 0.5),
)


@given(SPECS, st.integers(1, 5000))
def test_every_evaluation_falls_after_exactly_one_step_at_its_fraction(spec, rows):
    plan = StepPlan.of(spec, rows)
    made = [(number, step) for step in range(1, plan.steps + 1) for number in plan.due(step)]
    assert [number for number, _ in made] == list(range(1, spec.epochs * spec.evaluations_per_epoch + 1))
    assert all(step == -(-number * plan.steps // plan.evaluations) for number, step in made)
    assert plan.fraction(made[-1][0]) == 1.0
    assert made[-1][1] == plan.steps


@given(SPECS, st.integers(1, 5000))
def test_micro_batches_make_up_the_effective_batch_exactly(spec, rows):
    plan = StepPlan.of(spec, rows)
    assert plan.micro_batch * plan.accumulation == spec.effective_batch
    assert plan.micro_batch <= (spec.micro_batch or 8)
    assert plan.steps == spec.epochs * math.ceil(rows / spec.effective_batch)
    assert 0 <= plan.warmup_steps <= plan.steps


def test_the_micro_batch_is_the_largest_divisor_up_to_its_limit():
    assert [micro_batch(16), micro_batch(12), micro_batch(7), micro_batch(11), micro_batch(4)] == [8, 6, 7, 1, 4]
    assert micro_batch(16, 3) == 2
    assert micro_batch(16, 64) == 16


@given(SPECS, st.integers(1, 5000), st.integers(1, 64))
def test_a_limit_cuts_the_micro_batch_and_nothing_else(spec, rows, limit):
    free, cut = StepPlan.of(spec, rows), StepPlan.of(spec, rows, limit=limit)
    assert cut.micro_batch <= min(limit, free.micro_batch)
    assert cut.micro_batch * cut.accumulation == spec.effective_batch
    assert replace(cut, micro_batch=free.micro_batch, accumulation=free.accumulation) == free


def test_warm_up_is_a_share_of_the_steps_rounded_up():
    assert StepPlan.of(TrainingSpec(warmup_ratio=0.03), 1600).warmup_steps == 3
    assert StepPlan.of(TrainingSpec(warmup_ratio=0.0), 1600).warmup_steps == 0
