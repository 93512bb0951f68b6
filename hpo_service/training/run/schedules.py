"""Learning-rate schedules: how transformers is told of its own, and those it does not have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hpo_service.domain.study.hyperparameters import Hyperparameters

# The ResNet papers' steps: a tenth after half of the run, a hundredth after three quarters.
STEPS = ((0.75, 0.01), (0.5, 0.1))


@dataclass(frozen=True)
class Schedule:
    """A schedule of transformers with its arguments, or a shape of our own.

    Attributes:
        arguments: from the hyper-parameters and the number of steps to transformers' `lr_scheduler_kwargs`.
        shape: from the share done after warm-up (0 to 1) to the factor on the peak learning rate.
    """

    arguments: Callable[[Hyperparameters, int], dict[str, Any]] = lambda _hyper, _steps: {}
    shape: Callable[[Hyperparameters, float], float] | None = None


def _step(_hyper: Hyperparameters, done: float) -> float:
    return next((factor for begin, factor in STEPS if done >= begin), 1.0)


def _exponential(hyper: Hyperparameters, done: float) -> float:
    return float(hyper.min_lr_rate**done)


SCHEDULES: dict[str, Schedule] = {
    "cosine": Schedule(),
    "linear": Schedule(),
    "constant": Schedule(),
    "constant_with_warmup": Schedule(),
    "inverse_sqrt": Schedule(),
    "cosine_with_restarts": Schedule(lambda hyper, _: {"num_cycles": hyper.scheduler_cycles}),
    "cosine_with_min_lr": Schedule(lambda hyper, _: {"min_lr_rate": hyper.min_lr_rate}),
    # left alone it ends at 1e-7, whatever the peak, and refuses peaks below that
    "polynomial": Schedule(lambda hyper, _: {"power": hyper.scheduler_power, "lr_end": 0.0}),
    # falling as 1 - sqrt did best among the shapes compared in arXiv 2405.18392
    "warmup_stable_decay": Schedule(
        lambda hyper, steps: {
            "num_decay_steps": max(1, round(hyper.decay_ratio * steps)),
            "min_lr_ratio": hyper.min_lr_rate,
            "decay_type": "1-sqrt",
        }
    ),
    "step": Schedule(shape=_step),
    "exponential": Schedule(shape=_exponential),
}
"""Schedules by the name a study file uses."""


def own_schedule(hyper: Hyperparameters, optimizer: Optimizer, warmup: int, steps: int) -> LambdaLR | None:
    """The schedule where transformers has none of that name: linear warm-up, then the shape over the other steps."""
    shape = SCHEDULES[hyper.scheduler].shape
    if shape is None:
        return None
    return LambdaLR(optimizer, partial(_factor, partial(shape, hyper), warmup, steps))


def _factor(shape: Callable[[float], float], warmup: int, steps: int, step: int) -> float:
    if step < warmup:
        return step / warmup
    return shape(min(1.0, (step - warmup) / max(1, steps - warmup)))
