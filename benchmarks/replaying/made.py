"""Learning curves that are made up, of several kinds: what a table would hold, for trying policies without one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.replaying.curves import Problem, run_of
from hpo_service.domain.study.search_space import FloatParameter, SearchSpace

Rows = NDArray[np.float64]
CONFIGURATIONS = 27
SPACE = SearchSpace(parameters={"rate": FloatParameter(low=-1.5, high=1.5), "other": FloatParameter(low=-3, high=3)})


def _learning(draw: np.random.Generator, rate: float, other: float, evaluations: int = 8) -> Rows:
    """A fine-tuning: a quick fall, and an end that depends on the rate as a parabola."""
    at = np.arange(1, evaluations + 1) / evaluations
    end = 2 + 0.12 * (rate - 0.3) ** 2 + 0.01 * other
    curve = end + 0.5 * np.exp(-4 * np.exp(0.8 * rate + 0.1 * other) * at)
    return np.asarray(curve + draw.normal(0, 0.004, evaluations))


def _four(draw: np.random.Generator, rate: float, other: float) -> Rows:
    """The same with four evaluations, as in the quickstart."""
    return _learning(draw, rate, other, 4)


def _scratch(draw: np.random.Generator, rate: float, other: float) -> Rows:
    """From scratch: long and steep, a power law; the largest rates blow up on the way (Kaplan et al., 2020)."""
    at, power = np.arange(1, 41), max(0.25, 0.9 + 0.35 * rate + 0.08 * other)
    curve = 2 + 0.25 * (rate - 0.2) ** 2 + 0.03 * other + 8 * (at + 1.0) ** -power
    if rate > 1.1:
        since = int(draw.integers(3, 40))
        curve[since:] = curve[since] + np.cumsum(np.abs(draw.normal(0.1, 0.1, 40 - since)))
    return np.asarray(curve + draw.normal(0, 0.01, 40))


def _crossing(draw: np.random.Generator, rate: float, other: float) -> Rows:
    """Slow learners end best: noise of a high rate that a cosine schedule takes away late."""
    at, speed = np.arange(1, 21) / 20, 3 * np.exp(rate)
    noise = 0.15 * np.exp(0.7 * rate) * (np.cos(np.pi * at) + 1) / 2
    end = 2 + 0.06 * (rate + 0.6) ** 2 + 0.01 * other - 0.7 * np.exp(-2 * speed)
    return np.asarray(end + np.exp(-2 * speed * at) + noise + draw.normal(0, 0.005, 20))


def _late(draw: np.random.Generator, rate: float, other: float) -> Rows:
    """A plateau, and a fall in the last fifth, the deeper the higher the rate: warmup_stable_decay."""
    at = np.arange(1, 21) / 20
    end = 2 + 0.08 * (rate - 0.4) ** 2 + 0.01 * other + np.exp(-8 * np.exp(0.7 * rate) * at)
    return np.asarray(end + 0.12 * np.exp(0.5 * rate) * np.clip((1 - at) / 0.2, 0, 1) + draw.normal(0, 0.005, 20))


MADE: dict[str, Callable[[np.random.Generator, float, float], Rows]] = {
    "fine-tuning": _learning,
    "four evaluations": _four,
    "from scratch": _scratch,
    "crossing": _crossing,
    "late fall": _late,
}
"""Kinds of curves by their name."""


def made(kind: str, searches: int = 6) -> list[Problem]:
    """Make searches of one kind: the same ones each time."""
    found = []
    for number in range(searches):
        draw = np.random.default_rng(number)
        rates, others = draw.uniform(-1.5, 1.5, CONFIGURATIONS), draw.normal(0, 1, CONFIGURATIONS).clip(-3, 3)
        configurations = [{"rate": float(r), "other": float(o)} for r, o in zip(rates, others, strict=True)]
        runs = [[run_of(MADE[kind](draw, c["rate"], c["other"]).tolist())] for c in configurations]
        found.append(Problem(f"{kind} {number}", SPACE, list(configurations), runs))
    return found
