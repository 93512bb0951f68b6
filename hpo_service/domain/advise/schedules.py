"""Every learning-rate schedule as a factor on the peak rate, step by step: pure, and equal to what trials are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hpo_service.domain.study.hyperparameters import Hyperparameters

# The ResNet papers' steps: a tenth after half of the run, a hundredth after three quarters.
STEPS = ((0.75, 0.01), (0.5, 0.1))


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


Shape = Callable[[Hyperparameters, Place], float]
"""From a place after warm-up to the factor on the peak rate."""


def step_shape(_hyper: Hyperparameters, place: Place) -> float:
    """A tenth after half of the run, a hundredth after three quarters."""
    return next((factor for begin, factor in STEPS if place.done >= begin), 1.0)


def exponential_shape(hyper: Hyperparameters, place: Place) -> float:
    """Falls by the same factor at every step, to `min_lr_rate`."""
    return float(hyper.min_lr_rate**place.done)


def inverse_sqrt_shape(_hyper: Hyperparameters, place: Place) -> float:
    """1 / sqrt(step / warm-up steps); without warm-up it is counted from the first step."""
    scale = max(1, place.warmup)
    return 1.0 / math.sqrt((place.step + scale - place.warmup) / scale)


def stable_then_decay_shape(hyper: Hyperparameters, place: Place) -> float:
    """Falling as 1 - sqrt did best among the shapes compared in arXiv 2405.18392.

    Where warm-up and decay are more than the run, the decay is the shorter: the peak is always reached.
    """
    begin = max(place.warmup, place.steps - max(1, round(hyper.decay_ratio * place.steps)))
    if place.step < begin:
        return 1.0
    fallen = math.sqrt((place.step - begin) / max(1, place.steps - begin))
    return (1.0 - fallen) * (1.0 - hyper.min_lr_rate) + hyper.min_lr_rate


def _cosine(_hyper: Hyperparameters, place: Place) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * place.done))


def _cosine_with_restarts(hyper: Hyperparameters, place: Place) -> float:
    if place.done >= 1.0:
        return 0.0
    return 0.5 * (1.0 + math.cos(math.pi * ((hyper.scheduler_cycles * place.done) % 1.0)))


def _cosine_with_min_lr(hyper: Hyperparameters, place: Place) -> float:
    return _cosine(hyper, place) * (1.0 - hyper.min_lr_rate) + hyper.min_lr_rate


def _polynomial(hyper: Hyperparameters, place: Place) -> float:
    return float((1.0 - place.done) ** hyper.scheduler_power)


def _constant(_hyper: Hyperparameters, _place: Place) -> float:
    return 1.0


SHAPES: dict[str, Shape] = {
    "cosine": _cosine,
    "linear": lambda _hyper, place: 1.0 - place.done,
    "constant": _constant,
    "constant_with_warmup": _constant,
    "cosine_with_restarts": _cosine_with_restarts,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "polynomial": _polynomial,
    "warmup_stable_decay": stable_then_decay_shape,
    "inverse_sqrt": inverse_sqrt_shape,
    "step": step_shape,
    "exponential": exponential_shape,
}
"""What each schedule does after its warm-up, by the name a study file uses."""
NEVER_WARMS_UP = frozenset({"constant"})
"""Schedules that begin at the peak rate, whatever `warmup_ratio` says."""


def factor(hyper: Hyperparameters, warmup: int, steps: int, step: int) -> float:
    """What the peak rate is multiplied with at a step, counted from 0."""
    if hyper.scheduler in NEVER_WARMS_UP:
        return 1.0
    if step < warmup:
        return step / warmup
    return SHAPES[hyper.scheduler](hyper, Place(min(step, steps), warmup, steps))


def rates(hyper: Hyperparameters, steps: int) -> list[float]:
    """The learning rate of each optimizer step of a run with so many."""
    # as in a run: one of a single step would otherwise be all warm-up
    warmup = min(math.ceil(hyper.warmup_ratio * steps), steps - 1)
    return [hyper.learning_rate * factor(hyper, warmup, steps, step) for step in range(steps)]
