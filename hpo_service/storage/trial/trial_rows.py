"""Rows of `hpo_trial` and the few statements that everything about trials is made of; times in seconds since 1970."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Row, Select, insert, select, update

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.planned import PlannedTrial
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import NotFoundError
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.dialects.upsert import columns_of
from hpo_service.storage.studies import StageRow
from hpo_service.storage.values import plain


@dataclass(frozen=True)
class TrialRow:
    """A trial. `attempt` and `token` grow with every claim; `errors` and `losses` count attempts without a result.

    `ordinal` is its place in the stage, from 0; `number` its Optuna trial's, from the first claim on.
    `device_seconds` counts finished attempts. `share` is that of the training rows it is trained on.
    """

    id: int
    study_id: int
    stage_id: int
    ordinal: int
    number: int | None
    optuna_id: int | None
    state: TrialState
    role: str
    label: str
    parameters: dict[str, ParameterValue]
    dedupe_key: str | None
    seed: int
    origin_id: int | None
    copied_from: int | None
    score_test: bool
    keep_adapter: bool
    share: float
    attempt: int
    token: int
    worker_id: str | None
    lease_until: float | None
    errors: int
    losses: int
    progress: float
    value: float | None
    reason: str
    cancel_reason: str | None
    adapter: str | None
    facts: RunFacts
    created_at: float
    started_at: float | None
    ended_at: float | None
    device_seconds: float

    @property
    def lease(self) -> Lease:
        """The lease of whoever holds this claim of the trial."""
        return Lease(trial_id=self.id, token=self.token)

    @classmethod
    def read(cls, row: Row[Any]) -> TrialRow:
        """Make one from a row of `hpo_trial`."""
        values = columns_of(schema.trial, row)
        values["state"], values["facts"] = TrialState(values["state"]), RunFacts.of(values["facts"])
        return cls(**values)


TrialRows: TypeAlias = list[TrialRow]


class TrialTable:
    """Finds, inserts and changes rows of `hpo_trial`, inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, statement: Select[Any]) -> TrialRow | None:
        """Return the one trial that a statement selects, or None."""
        row = self._database.connection.execute(statement).one_or_none()
        return None if row is None else TrialRow.read(row)

    def all(self, statement: Select[Any]) -> TrialRows:
        """Return the trials that a statement selects."""
        return [TrialRow.read(row) for row in self._database.connection.execute(statement)]

    def locked(self, trial_id: int) -> TrialRow:
        """Return a trial, held against others' changes until the transaction ends.

        Raises:
            NotFoundError: there is no such trial.
        """
        row = self.find(select(schema.trial).where(schema.trial.c.id == trial_id).with_for_update(key_share=True))
        if row is None:
            raise missing(trial_id)
        return row

    def insert(self, stage: StageRow, planned: PlannedTrial, ordinal: int, state: TrialState, **held: Any) -> TrialRow:
        """Add a trial to a stage; `held` are the columns of who holds it, where it runs at once."""
        values = {
            **asdict(planned),
            "study_id": stage.study_id,
            "stage_id": stage.id,
            "ordinal": ordinal,
            "state": state,
            "parameters": plain(planned.parameters),
            "attempt": 0,
            "token": 0,
            "errors": 0,
            "losses": 0,
            "progress": 0.0,
            "reason": "planned",
            "facts": {},
            "created_at": Now(),
            "device_seconds": 0.0,
            **held,
        }
        statement = insert(schema.trial).values(values).returning(schema.trial)
        return TrialRow.read(self._database.connection.execute(statement).one())

    def change(self, trial_id: int, **values: Any) -> TrialRow:
        """Write columns of a trial and return it.

        Raises:
            NotFoundError: there is no such trial.
        """
        row = self.change_where(schema.trial.c.id == trial_id, **values)
        if row is None:
            raise missing(trial_id)
        return row

    def change_where(self, where: ColumnElement[bool], **values: Any) -> TrialRow | None:
        """Write columns of the one trial that fits and return it, or None where none does."""
        statement = update(schema.trial).where(where).values(**values).returning(schema.trial)
        row = self._database.connection.execute(statement).one_or_none()
        return None if row is None else TrialRow.read(row)


def missing(trial_id: int) -> NotFoundError:
    """Return the error for a trial that is gone."""
    return NotFoundError(f"there is no trial {trial_id}: its study was deleted")
