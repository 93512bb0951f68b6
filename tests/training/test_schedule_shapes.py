"""Schedules as they are drawn are those that trials are given, step by step."""

import pytest
import torch

from hpo_service.domain.advise.schedules import SHAPES, rates
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.training.engines.packed.slot import build_schedule
from hpo_service.training.run.schedules import SCHEDULES
from hpo_service.training.run.steps import StepPlan


def test_every_schedule_has_a_shape():
    assert set(SHAPES) == set(SCHEDULES)


@pytest.mark.parametrize("scheduler", SHAPES)
@pytest.mark.parametrize("warmup, rows", [(0.0, 160), (0.1, 160), (0.5, 33), (0.9, 4)])
def test_a_drawn_rate_is_the_rate_of_the_step(scheduler, warmup, rows):
    spec = TrainingSpec.model_validate(
        {"scheduler": scheduler, "warmup_ratio": warmup, "effective_batch": 4, "scheduler_cycles": 3}
    )
    plan = StepPlan.of(spec, rows)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=spec.learning_rate)
    schedule, given = build_schedule(spec, optimizer, plan), []
    for _ in range(plan.steps):
        given.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates(spec, plan.steps) == pytest.approx(given, rel=1e-9, abs=1e-15)
