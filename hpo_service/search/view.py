"""A study as samplers and pruners see it: a list of trials already read, and nothing to write to."""

from __future__ import annotations

from collections.abc import Container, Sequence
from copy import copy
from copy import deepcopy as copied
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo_service.domain.study.direction import Direction
from hpo_service.search.logs import leave_logging_to_the_application

leave_logging_to_the_application()


class _Snapshot(InMemoryStorage):
    """Answers every question about trials from one list; what a sampler wants to store is dropped.

    TPE shares the parameters of a trial being sampled through system attributes, trial by trial. Ours are
    inserted with all parameters at once, so nobody would read them.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._snapshot = list(trials)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        del study_id  # there is one study
        found = [t for t in self._snapshot if states is None or t.state in states]
        return copied(found) if deepcopy else found

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        pass


def view_of(trials: Sequence[FrozenTrial], direction: Direction, goals: int = 1) -> optuna.Study:
    """Return a study over these trials that cannot reach the database; of several goals the first has the direction."""
    return optuna.create_study(
        storage=_Snapshot(trials if goals == 1 else all_complete(trials, direction, goals)),
        directions=[StudyDirection[direction.upper()], *([StudyDirection.MINIMIZE] * (goals - 1))],
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
    )


def all_complete(trials: Sequence[FrozenTrial], direction: Direction, goals: int) -> list[FrozenTrial]:
    """Return trials as samplers for several goals take them, which know no pruned ones.

    Who ended without a value counts as the worst that was measured in each goal; while nothing was, it is left out.
    """
    values = [trial.values for trial in trials if trial.state is TrialState.COMPLETE and len(trial.values) == goals]
    worst = [max(each) for each in zip(*values, strict=True)]
    if values and direction.maximize:
        worst[0] = min(each[0] for each in values)
    found = []
    for trial in trials:
        if trial.state is not TrialState.PRUNED:
            found.append(trial)
        elif worst:
            counted = copy(trial)
            counted.state, counted.values = TrialState.COMPLETE, list(worst)
            found.append(counted)
    return found
