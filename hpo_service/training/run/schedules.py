"""Learning-rate schedules: how transformers is told of its own, and those it does not have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hpo_service.domain.advise.schedules import (
    Place,
    Shape,
    exponential_shape,
    inverse_sqrt_shape,
    stable_then_decay_shape,
    step_shape,
)
from hpo_service.domain.study.hyperparameters import Hyperparameters


@dataclass(frozen=True)
class Schedule:
    """A schedule of transformers with its arguments, or a shape of our own.

    Attributes:
        arguments: from the hyper-parameters to transformers' `lr_scheduler_kwargs`.
        shape: from a place after warm-up to the factor on the peak learning rate, which is 1 at its first step.
    """

    arguments: Callable[[Hyperparameters], dict[str, Any]] = lambda _hyper: {}
    shape: Shape | None = None


SCHEDULES: dict[str, Schedule] = {
    "cosine": Schedule(),
    "linear": Schedule(),
    "constant": Schedule(),
    "constant_with_warmup": Schedule(),
    "cosine_with_restarts": Schedule(lambda hyper: {"num_cycles": hyper.scheduler_cycles}),
    "cosine_with_min_lr": Schedule(lambda hyper: {"min_lr_rate": hyper.min_lr_rate}),
    # left alone it ends at 1e-7, whatever the peak, and refuses peaks below that
    "polynomial": Schedule(lambda hyper: {"power": hyper.scheduler_power, "lr_end": 0.0}),
    "warmup_stable_decay": Schedule(shape=stable_then_decay_shape),
    "inverse_sqrt": Schedule(shape=inverse_sqrt_shape),
    "step": Schedule(shape=step_shape),
    "exponential": Schedule(shape=exponential_shape),
}
"""Schedules by the name a study file uses."""


def own_schedule(hyper: Hyperparameters, optimizer: Optimizer, warmup: int, steps: int) -> LambdaLR | None:
    """The schedule where transformers has none, or one that misses its peak: linear warm-up, then the shape."""
    shape = SCHEDULES[hyper.scheduler].shape
    if shape is None:
        return None
    return LambdaLR(optimizer, partial(_factor, partial(shape, hyper), warmup, steps))


def _factor(shape: Callable[[Place], float], warmup: int, steps: int, step: int) -> float:
    return step / warmup if step < warmup else shape(Place(min(step, steps), warmup, steps))
