"""The generations that Optuna's genetic samplers ask for, told from the trials that have ended."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import optuna
from optuna.trial import FrozenTrial, TrialState

from hpo_service.domain.study.direction import Direction
from hpo_service.search.evolution.strategy import turn
from hpo_service.search.view import all_complete

POPULATION = 12
"""Trials of a generation, which a search of usual length has a few of; Optuna's 50 would be its whole budget."""


class NSGA2(optuna.samplers.NSGAIISampler):
    """Optuna's sampler (Deb et al., 2002), given trials that know their generation."""

    def __init__(self, seed: int) -> None:
        super().__init__(population_size=POPULATION, seed=seed)


def in_generations(trials: Sequence[FrozenTrial], direction: Direction, goals: int) -> list[FrozenTrial]:
    """Return copies of trials that say which generation they belong to.

    Optuna's sampler writes that into a trial when it proposes it, and ours keep nothing of a sampler's. So trials are
    taken in the order in which they ended, `POPULATION` at a time, whoever proposed them. Those that were stopped count
    as the worst that was measured; parents are told apart by their place, which trials of another study have too.

    Args:
        trials: all that lie in the space; those that have not ended belong to none.
        direction: which values of the first goal are better.
        goals: how many values a trial has.
    """
    whole = all_complete(trials, direction, goals)
    ended = sorted((trial for trial in whole if trial.state is TrialState.COMPLETE), key=turn)
    found = []
    for place, trial in enumerate(ended):
        marked = copy(trial)
        marked._trial_id = place
        marked.system_attrs = {**trial.system_attrs, NSGA2._get_generation_key(): place // POPULATION}
        found.append(marked)
    return found
