"""A study as samplers and pruners see it: a list of trials already read, and nothing to write to."""

from __future__ import annotations

from collections.abc import Container, Sequence
from copy import deepcopy as copied
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
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


def view_of(trials: Sequence[FrozenTrial], direction: Direction) -> optuna.Study:
    """Return a study over these trials that cannot reach the database."""
    return optuna.create_study(
        storage=_Snapshot(trials),
        direction=direction.value,
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
    )
