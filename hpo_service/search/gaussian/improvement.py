"""Where the next trial may improve most: expected improvement over the whole space, under a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import CategoricalParameter, Parameter, ParameterValue, SearchSpace
from hpo_service.domain.study.sections.search import COSTS
from hpo_service.domain.study.space.membership import nearest_value
from hpo_service.search.gaussian.encoding import Encoding
from hpo_service.search.gaussian.feasibility import chances, kept
from hpo_service.search.gaussian.process import fitted
from hpo_service.search.gaussian.scalarisation import cut, scalarised
from hpo_service.search.quasirandom import value_of

Configuration = dict[str, ParameterValue]

MOST = 100
"""Trials that a process is fitted to: its cost grows with their cube. Of more, the better half and the latest."""
FAR = 400
"""Candidates from all over the space."""
NEAR = 150
"""Candidates around the best trials."""
AROUND = 3
"""Best trials around which candidates are drawn."""


@dataclass(frozen=True)
class Promise:
    """Configurations, the most promising first.

    Attributes:
        candidates: the configurations.
        gain: by how much the first is expected to improve on the best so far, in the objective's unit.
    """

    candidates: list[Configuration]
    gain: float


def promise(
    space: SearchSpace, direction: Direction, trials: Sequence[FrozenTrial], seed: int, goals: int = 1
) -> Promise | None:
    """Rank candidates by expected improvement (Jones et al., 1998), times the chance that they keep all limits.

    Args:
        space: what is searched.
        direction: which values are better.
        trials: all that lie in the space; running ones count as if they measured what is expected of them.
        seed: decides which candidates are drawn, and the weights of several goals.
        goals: how many each trial has a value for.

    Returns:
        The ranking, or None where nothing was measured yet or nothing can vary.
    """
    encoding = Encoding(space)
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    losses = _losses(ended, direction) if goals == 1 else scalarised(ended, direction, goals, seed)
    if not encoding.parameters or not np.isfinite(losses).any():
        return None
    chosen = _kept(losses)
    ended, losses = [ended[place] for place in chosen], losses[chosen]
    scaled, unit = _standard(losses)
    process = fitted(encoding.rows(trial.params for trial in ended), scaled, encoding.owners)
    running = [trial.params for trial in trials if trial.state is TrialState.RUNNING]
    process = process.believing(encoding.rows(running))
    allowed = np.array([kept(trial) for trial in ended])
    expected, _ = process.predict(process.rows)
    # what broke a limit is no best to improve on; running ones stand last and count as allowed
    within = np.concatenate([allowed, np.ones(len(running), dtype=bool)])
    ranked = np.argsort(np.where(allowed, losses, np.inf) if allowed.any() else losses, kind="stable")
    drawn = _candidates(space, [ended[place].params for place in ranked[:AROUND]], np.random.default_rng(seed))
    rows = encoding.rows(drawn)
    improvement = chances(encoding, ended, rows)
    if allowed.any():
        improvement = improvement * _expected_improvement(float(expected[within].min()), *process.predict(rows))
    order = np.argsort(-improvement, kind="stable")
    # while nothing kept the limits, anything that does is a gain
    gain = float(improvement[order[0]]) * unit if allowed.any() else math.inf
    return Promise([drawn[place] for place in order], gain)


def _losses(trials: Sequence[FrozenTrial], direction: Direction) -> NDArray[np.float64]:
    """What trials measured, smaller is better; infinite where they measured nothing or could not run."""
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    return np.array([sign * value if (value := _value(trial)) is not None else math.inf for trial in trials])


def _value(trial: FrozenTrial) -> float | None:
    value = trial.values[0] if trial.values else None
    if any(violation > 0 for name, violation in trial.constraints.items() if name not in COSTS):
        return None  # it did not fit the device
    return value if value is not None and math.isfinite(value) else None


def _kept(losses: NDArray[np.float64]) -> list[int]:
    """Places of the trials that are fitted: all, or of many the best and the latest."""
    if len(losses) <= MOST:
        return list(range(len(losses)))
    best = np.argsort(losses, kind="stable")[: MOST // 2].tolist()
    latest = [place for place in range(len(losses))[::-1] if place not in set(best)][: MOST - len(best)]
    return sorted([*best, *latest])


def _standard(losses: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Shift and scale losses to mean 0 and deviation 1; return also the unit that they were divided by."""
    kept_near = cut(losses)
    unit = float(kept_near.std()) or 1.0
    return (kept_near - kept_near.mean()) / unit, unit


def _expected_improvement(
    best: float, mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    from scipy.special import ndtr

    better = (best - mean) / deviation
    return np.asarray(deviation * (better * ndtr(better) + np.exp(-0.5 * better**2) / math.sqrt(2 * math.pi)))


def _candidates(
    space: SearchSpace, best: Sequence[Mapping[str, ParameterValue]], draw: np.random.Generator
) -> list[Configuration]:
    far = [_drawn(space, {}, 0.0, draw) for _ in range(FAR)]
    near = [_drawn(space, best[turn % len(best)], 10 ** draw.uniform(-2.0, -0.7), draw) for turn in range(NEAR)]
    return far + near


def _drawn(
    space: SearchSpace, around: Mapping[str, ParameterValue], width: float, draw: np.random.Generator
) -> Configuration:
    """Draw a configuration: near another one where that has the parameter, else from all of the range."""
    chosen: Configuration = {}
    for name, parameter in space.active(chosen):
        if name not in around:
            chosen[name] = value_of(parameter, draw.random())
        else:
            chosen[name] = _moved(parameter, around[name], width, draw)
    return chosen


def _moved(parameter: Parameter, value: ParameterValue, width: float, draw: np.random.Generator) -> ParameterValue:
    """Leave a value as it is in four of ten cases, a choice in eight; else move it by about so much of its range."""
    if isinstance(parameter, CategoricalParameter):
        return value if draw.random() > 0.2 else parameter.choices[int(draw.integers(len(parameter.choices)))]
    assert not isinstance(value, str), "numbers have numbers as values"
    if draw.random() < 0.4:
        return value
    low, high, place = float(parameter.low), float(parameter.high), float(value)
    if parameter.log:
        moved = math.exp(math.log(place) + width * (math.log(high) - math.log(low)) * draw.standard_normal())
    else:
        moved = place + width * (high - low) * draw.standard_normal()
    return nearest_value(parameter, moved)
