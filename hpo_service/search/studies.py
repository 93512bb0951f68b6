"""Optuna's studies as a projection of our books: what samplers and optuna-dashboard read, written by the ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import ParameterValue, SearchSpace
from hpo_service.domain.trial.endings import FINAL
from hpo_service.domain.trial.facts import VRAM_OVER
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import ConflictError, SchemaError
from hpo_service.search.artifact import Artifact

if TYPE_CHECKING:
    from hpo_service.search.enlisted import EnlistedStorage, SessionSource

NONE: Mapping[str, float] = {}

Attributes: TypeAlias = dict[str, str | int]
"""System attributes of an Optuna study, by name."""


@dataclass(frozen=True)
class TrialHandle:
    """A trial in Optuna's tables: its row, and its number within the study."""

    optuna_id: int
    number: int


class OptunaStudies:
    """Writes Optuna's tables.

    Contract: every method but `create_tables` writes in the transaction that is open on the calling thread, and is
    undone with it. Instances may be shared between threads. Optuna is imported and the database touched when the
    first method is called, not before.
    """

    def __init__(self, url: str, session_source: SessionSource) -> None:
        self._url = url
        self._session_source = session_source

    @cached_property
    def _storage(self) -> EnlistedStorage:
        from hpo_service.search.enlisted import EnlistedStorage

        return EnlistedStorage(self._url, self._session_source)

    @staticmethod
    def create_tables(url: str) -> None:
        """Create Optuna's tables where they are missing; call it under the migration lock, outside transactions.

        Raises:
            SchemaError: the tables are there, but of another Optuna version.
        """
        from hpo_service.search.enlisted import create_tables

        try:
            create_tables(url)
        except RuntimeError as error:
            raise SchemaError(f"Optuna's tables do not fit the installed Optuna: {error}") from error

    def create(self, name: str, direction: Direction, costs: int = 0) -> None:
        """Create a study unless it is there already; so many costs are further goals, and smaller is better in each."""
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        if self.exists(name):
            return
        # another process may create it between the two; only a savepoint is lost then
        with suppress(DuplicatedStudyError):
            directions = [StudyDirection[direction.upper()], *([StudyDirection.MINIMIZE] * costs)]
            self._storage.create_new_study(directions, name)

    def exists(self, name: str) -> bool:
        """Tell whether there is a study of this name."""
        return self._storage.find_study(name) is not None

    def delete(self, name: str) -> None:
        """Delete a study with its trials; one that is not there is no error."""
        study_id = self._storage.find_study(name)
        if study_id is not None:
            self._storage.delete_study(study_id)

    def add_running(self, name: str, parameters: Mapping[str, ParameterValue], space: SearchSpace) -> TrialHandle:
        """Insert a running trial with all its parameters at once.

        Args:
            name: the study.
            parameters: the configuration; values outside the space are kept as they are.
            space: what the study samples from.
        """
        from hpo_service.search.distributions import distribution_holding

        rows = {key: (value, distribution_holding(key, value, space)) for key, value in parameters.items()}
        optuna_id, number = self._storage.add(name, rows)
        return TrialHandle(optuna_id, number)

    def report(self, optuna_id: int, step: int, value: float) -> None:
        """Store the value of one evaluation, not-a-number included.

        Raises:
            ConflictError: the trial has ended.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self._storage.set_trial_intermediate_value(optuna_id, step, value)
        except UpdateFinishedTrialError as error:
            message = f"trial {optuna_id} has ended: no more evaluations can be reported for it"
            raise ConflictError(message) from error

    def add_reports(self, optuna_id: int, curve: Mapping[int, float]) -> None:
        """Store the values of many evaluations at once, by step, of a trial that has none yet."""
        self._storage.add_intermediate_values(optuna_id, curve)

    def finish(
        self,
        optuna_id: int,
        state: TrialState,
        value: float | None,
        violation: float | None,
        costs: Sequence[float | None] = (),
        excesses: Mapping[str, float] = NONE,
        *,
        or_last: bool = True,
    ) -> None:
        """End a trial, so that the sampler learns from it; one that has ended already is left alone.

        Args:
            optuna_id: the trial.
            state: complete, pruned and infeasible teach the sampler; failed and cancelled say nothing about
                the configuration and are hidden from it.
            value: the final measure; a pruned trial's default is what it reported last. A complete trial without
                a finite one counts as pruned.
            violation: gigabytes over the device's memory (negative: room left); 1 for an infeasible trial
                of which it is not known.
            costs: what it reached in the study's further goals; a trial of which one is not known counts as pruned,
                and pruned ones have no values in a study of several goals.
            excesses: by limit, how far it is beyond (logarithm of cost over limit); above 0 it broke the limit.
            or_last: whether a pruned trial without a value has what it reported last; False where that is another
                measure.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState as OptunaState

        value = _finite(value) if all(_finite(cost) is not None for cost in costs) else None
        if state is TrialState.INFEASIBLE and violation is None:
            violation = 1.0
        told = FINAL[TrialState.PRUNED if state is TrialState.COMPLETE and value is None else state].optuna
        if told == "PRUNED" and value is None and or_last and not costs:
            value = self._last_reported(optuna_id)
        with suppress(UpdateFinishedTrialError):
            if violation is not None and math.isfinite(violation):
                self._storage.constrain(optuna_id, VRAM_OVER, violation)
            for name, excess in excesses.items():
                self._storage.constrain(optuna_id, name, excess)
            whole = [value, *costs]
            values = None if value is None or (costs and told == "PRUNED") else [float(each or 0.0) for each in whole]
            self._storage.set_trial_state_values(optuna_id, OptunaState[str(told)], values)

    def changed_attributes(
        self,
        name: str,
        signed: str,
        notes: Mapping[int | None, str],
        artifacts: Mapping[int | None, Sequence[Artifact]],
    ) -> Attributes:
        """Return as attributes the notes and artifacts of optuna-dashboard that differ from what is there.

        Args:
            name: the study.
            signed: a line that every note of ours has; what is there and not signed is somebody's own and stays.
            notes: by the trial's number, or None for the study's own; each is kept in one piece.
            artifacts: likewise. They are kept among the study's attributes, since those of an ended trial are closed.
        """
        study_id = self._storage.find_study(name)
        if study_id is None:
            return {}
        numbers = {number for number in (*notes, *artifacts) if number is not None}
        ids: dict[int | None, int | None] = dict(self._storage.trial_ids(study_id, sorted(numbers)).items())
        ids[None] = None
        there = self._storage.get_study_system_attrs(study_id)
        changed: Attributes = {}
        for number in notes.keys() & ids.keys():
            key = _note(ids[number])
            old = str(there.get(f"{key}str:0", ""))
            if old != notes[number] and signed in (old or signed):
                changed |= {f"{key}str:0": notes[number], f"{key}ver": int(there.get(f"{key}ver", 0)) + 1}
        for number in artifacts.keys() & ids.keys():
            of_ours = {f"{_artifact(ids[number])}{each.id}": each.described() for each in artifacts[number]}
            changed |= {key: said for key, said in of_ours.items() if there.get(key) != said}
        return changed

    def set_attributes(self, name: str, attributes: Attributes) -> None:
        """Write what `changed_attributes` returned."""
        study_id = self._storage.find_study(name)
        if study_id is not None:
            for key, value in attributes.items():
                self._storage.set_study_system_attr(study_id, key, value)

    def _last_reported(self, optuna_id: int) -> float | None:
        reported = self._storage.get_trial(optuna_id).intermediate_values
        return _finite(reported[max(reported)]) if reported else None


def _note(optuna_id: int | None) -> str:
    """Beginning of the names under which optuna-dashboard keeps a note among the study's attributes."""
    return "dashboard:note_" if optuna_id is None else f"dashboard:{optuna_id}:note_"


def _artifact(optuna_id: int | None) -> str:
    """Beginning of the names under which optuna-dashboard finds an artifact among the study's attributes."""
    return "artifacts:" if optuna_id is None else f"dashboard:artifacts:{optuna_id}:"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
