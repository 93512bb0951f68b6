"""CMA-ES without a memory of its own: what it has learned is computed from the trials that have ended, each time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import ParameterValue, SearchSpace
from hpo_service.search.evolution.coordinates import Coordinates

if TYPE_CHECKING:
    from cmaes import CatCMA

WIDTH = 0.2
"""Standard deviation of the first generation, as a share of each range."""
NARROWEST = 1e-8
"""Variance, as a share of a range squared, below which the distribution does not shrink."""


def generations(
    space: SearchSpace, direction: Direction, trials: Sequence[FrozenTrial], *, startup: int, seed: int, draw: int
) -> Iterator[dict[str, ParameterValue]]:
    """Yield draws from the distribution that the ended trials lead to, without end.

    CatCMA (Hamano et al., 2024): CMA-ES (Hansen, 2016) for numbers, and for choices a table of probabilities that moves
    along its natural gradient. The distribution begins at the best of the start-up trials. The others are taken in the
    order in which they ended, as many at a time as are a generation, and each generation moves it by the ranks of what
    was measured; one that is not full yet waits. So trials that have ended decide, whoever proposed them and whatever
    runs beside them, and a worker that restarts goes on. What a configuration lacks, because a condition does not hold,
    counts as drawn from the distribution itself, which moves it nowhere.

    Args:
        space: what is searched.
        direction: which values are better.
        trials: all that lie in the space; those that have not ended are not looked at.
        startup: trials that only say where to begin.
        seed: of the study; it decides what stands in for what configurations lack.
        draw: decides what is drawn.
    """
    from cmaes import CatCMA  # here, because it imports scipy.stats, which takes a second

    places = Coordinates(space)
    ended = sorted((trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)), key=turn)
    started, rest = ended[:startup], ended[startup:]
    middle = np.full(places.numbers, 0.5), np.zeros((len(places.widths), places.widths.max()), dtype=bool)
    best = started[_ranks(started, direction).index(0)].params if started else {}
    strategy = CatCMA(
        mean=places.point(best, middle)[0],
        sigma=WIDTH,
        cat_num=places.widths,
        bounds=np.tile([0.0, 1.0], (places.numbers, 1)),
        min_eigenvalue=NARROWEST,
        seed=seed % 2**32,
    )
    size = strategy.population_size
    for first in range(0, len(rest) - size + 1, size):
        _tell(strategy, places, rest[first : first + size], direction)
    strategy.reseed_rng(draw % 2**32)
    while True:
        yield places.configuration(strategy.ask())


def _tell(strategy: CatCMA, places: Coordinates, generation: Sequence[FrozenTrial], direction: Direction) -> None:
    points = [places.point(trial.params, strategy.ask()) for trial in generation]
    strategy.tell(list(zip(points, map(float, _ranks(generation, direction)), strict=True)))


def turn(trial: FrozenTrial) -> tuple[bool, datetime, int]:
    """Say when a trial's turn is: what another study measured comes first, then each as it ended."""
    assert trial.datetime_complete is not None, "trials that ended have a time at which they did"
    return trial.number >= 0, trial.datetime_complete, trial.number


def _ranks(trials: Sequence[FrozenTrial], direction: Direction) -> list[int]:
    """The place of each trial among these, 0 for the best; what measured nothing or could not run is last."""
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    losses = [sign * value if (value := _value(trial)) is not None else math.inf for trial in trials]
    order = np.argsort(losses, kind="stable")
    return [int(place) for place in np.argsort(order, kind="stable")]


def _value(trial: FrozenTrial) -> float | None:
    value = float(trial.values[0]) if trial.values else None
    if value is None or not math.isfinite(value) or any(violation > 0 for violation in trial.constraints.values()):
        return None
    return value
