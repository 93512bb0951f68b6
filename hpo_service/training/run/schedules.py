"""Learning-rate schedules: how transformers is told of its own, and those it does not have."""

from __future__ import annotations

import math
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
        arguments: from the hyper-parameters to transformers' `lr_scheduler_kwargs`.
        shape: from a place after warm-up to the factor on the peak learning rate, which is 1 at its first step.
    """

    arguments: Callable[[Hyperparameters], dict[str, Any]] = lambda _hyper: {}
    shape: Callable[[Hyperparameters, Place], float] | None = None


@dataclass(frozen=True)
class Place:
    """A step of a run, from 0, with the run's steps and how many of them warm up."""

    step: int
    warmup: int
    steps: int

    @property
    def done(self) -> float:
        """The share done after warm-up, 0 to 1."""
        return min(1.0, (self.step - self.warmup) / max(1, self.steps - self.warmup))


def _step(_hyper: Hyperparameters, place: Place) -> float:
    return next((factor for begin, factor in STEPS if place.done >= begin), 1.0)


def _exponential(hyper: Hyperparameters, place: Place) -> float:
    return float(hyper.min_lr_rate**place.done)


def _inverse_sqrt(_hyper: Hyperparameters, place: Place) -> float:
    """1 / sqrt(step / warm-up steps); without warm-up it is counted from the first step."""
    scale = max(1, place.warmup)
    return 1.0 / math.sqrt((place.step + scale - place.warmup) / scale)


def _stable_then_decay(hyper: Hyperparameters, place: Place) -> float:
    """Falling as 1 - sqrt did best among the shapes compared in arXiv 2405.18392.

    Where warm-up and decay are more than the run, the decay is the shorter: the peak is always reached.
    """
    begin = max(place.warmup, place.steps - max(1, round(hyper.decay_ratio * place.steps)))
    if place.step < begin:
        return 1.0
    fallen = math.sqrt((place.step - begin) / max(1, place.steps - begin))
    return (1.0 - fallen) * (1.0 - hyper.min_lr_rate) + hyper.min_lr_rate


SCHEDULES: dict[str, Schedule] = {
    "cosine": Schedule(),
    "linear": Schedule(),
    "constant": Schedule(),
    "constant_with_warmup": Schedule(),
    "cosine_with_restarts": Schedule(lambda hyper: {"num_cycles": hyper.scheduler_cycles}),
    "cosine_with_min_lr": Schedule(lambda hyper: {"min_lr_rate": hyper.min_lr_rate}),
    # left alone it ends at 1e-7, whatever the peak, and refuses peaks below that
    "polynomial": Schedule(lambda hyper: {"power": hyper.scheduler_power, "lr_end": 0.0}),
    "warmup_stable_decay": Schedule(shape=_stable_then_decay),
    "inverse_sqrt": Schedule(shape=_inverse_sqrt),
    "step": Schedule(shape=_step),
    "exponential": Schedule(shape=_exponential),
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
