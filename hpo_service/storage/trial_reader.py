"""What people, the budget and the reaper ask about trials."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

from sqlalchemy import Select, func, or_, select

from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import NotFoundError
from hpo_service.storage import schema
from hpo_service.storage.clock import Now, earlier
from hpo_service.storage.database import Database
from hpo_service.storage.trial_rows import AttemptRow, ReportRow, TrialRow
from hpo_service.storage.upsert import columns_of

TrialRows: TypeAlias = list[TrialRow]
ReportRows: TypeAlias = list[ReportRow]
AttemptRows: TypeAlias = list[AttemptRow]

FactRows: TypeAlias = list[RunFacts]

# Trials that `complete_facts` returns: enough for a median.
LATEST = 20

_trial = schema.trial.c
_attempt = schema.attempt.c


class TrialReader:
    """Reads `hpo_trial` and what hangs on it. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def expired(self, limit: int | None = None, but_not: Collection[int] = ()) -> TrialRows:
        """Return running trials whose lease is over or missing, locked, passing over those that are being settled.

        Args:
            limit: at most so many.
            but_not: ids of studies whose trials are left alone.
        """
        statement = (
            select(schema.trial)
            .where(_trial.state == TrialState.RUNNING)
            .where(or_(_trial.lease_until < Now(), _trial.lease_until.is_(None)))
            .where(_trial.study_id.not_in(but_not))
            .order_by(_trial.lease_until, _trial.id)
            .limit(limit)
            .with_for_update(skip_locked=True, key_share=True)
        )
        return self._all(statement)

    def get(self, trial_id: int) -> TrialRow:
        """Return the trial of that id.

        Raises:
            NotFoundError: there is none.
        """
        row = self._find(select(schema.trial).where(_trial.id == trial_id))
        if row is None:
            raise missing(trial_id)
        return row

    def by_number(self, stage_id: int, number: int) -> TrialRow:
        """Return the stage's trial of that Optuna number.

        Raises:
            NotFoundError: there is none.
        """
        row = self._find(select(schema.trial).where(_trial.stage_id == stage_id, _trial.number == number))
        if row is None:
            raise NotFoundError(f"there is no trial number {number} in this stage: see `hpo-service study show`")
        return row

    def list(self, study_id: int, stage_id: int | None = None) -> TrialRows:
        """Return the trials of a study, or of one of its stages, in the order they came to be."""
        statement = select(schema.trial).where(_trial.study_id == study_id)
        if stage_id is not None:
            statement = statement.where(_trial.stage_id == stage_id)
        return self._all(statement.order_by(_trial.stage_id, _trial.ordinal))

    def find_key(self, stage_id: int, dedupe_key: str) -> TrialRow | None:
        """Return the stage's trial with this configuration, or None."""
        return self._find(select(schema.trial).where(_trial.stage_id == stage_id, _trial.dedupe_key == dedupe_key))

    def keys(self, stage_id: int) -> set[str]:
        """Return the configurations taken in this stage."""
        statement = select(_trial.dedupe_key).where(_trial.stage_id == stage_id, _trial.dedupe_key.is_not(None))
        return {key for key in self._database.connection.scalars(statement) if key is not None}

    def counts(self, stage_id: int) -> dict[TrialState, int]:
        """Return how many trials of the stage are in each state; every state is there."""
        statement = select(_trial.state, func.count()).where(_trial.stage_id == stage_id).group_by(_trial.state)
        found = {TrialState(state): count for state, count in self._database.connection.execute(statement)}
        return {state: found.get(state, 0) for state in TrialState}

    def total(self, stage_id: int) -> int:
        """Return how many trials the stage has, whatever became of them."""
        statement = select(func.count()).select_from(schema.trial).where(_trial.stage_id == stage_id)
        return self._database.connection.scalar(statement) or 0

    def reports(self, trial_id: int) -> ReportRows:
        """Return the trial's reports by step."""
        table = schema.report
        rows = self._database.connection.execute(
            select(table).where(table.c.trial_id == trial_id).order_by(table.c.step)
        )
        return [ReportRow(**columns_of(table, row)) for row in rows]

    def curves(self, study_id: int) -> ReportRows:
        """Return the reports of all trials of a study, by trial and step."""
        table = schema.report
        rows = self._database.connection.execute(
            select(table)
            .join(schema.trial, _trial.id == table.c.trial_id)
            .where(_trial.study_id == study_id)
            .order_by(table.c.trial_id, table.c.step)
        )
        return [ReportRow(**columns_of(table, row)) for row in rows]

    def attempts(self, trial_id: int) -> AttemptRows:
        """Return the trial's attempts, first to last."""
        table = schema.attempt
        rows = self._database.connection.execute(
            select(table).where(_attempt.trial_id == trial_id).order_by(_attempt.attempt)
        )
        return [AttemptRow(**columns_of(table, row)) for row in rows]

    def attempts_in(self, study_id: int) -> AttemptRows:
        """Return the attempts of all trials of a study, by trial, first to last."""
        table = schema.attempt
        rows = self._database.connection.execute(
            select(table)
            .join(schema.trial, _trial.id == table.c.trial_id)
            .where(_trial.study_id == study_id)
            .order_by(table.c.trial_id, table.c.attempt)
        )
        return [AttemptRow(**columns_of(table, row)) for row in rows]

    def attempt_of(self, lease: Lease) -> AttemptRow | None:
        """Return the attempt that a lease was given for, or None where its trial is gone."""
        table = schema.attempt
        row = self._database.connection.execute(
            select(table).where(_attempt.trial_id == lease.trial_id, _attempt.token == lease.token)
        ).one_or_none()
        return None if row is None else AttemptRow(**columns_of(table, row))

    def device_seconds(self, stage_id: int) -> float:
        """Return the device time that the stage's attempts have taken so far, running ones included."""
        so_far = (earlier(_trial.lease_until, Now()) - _attempt.started_at) * _attempt.devices
        statement = (
            select(func.sum(func.coalesce(_attempt.device_seconds, so_far)))
            .join(schema.trial, _trial.id == _attempt.trial_id)
            .where(_trial.stage_id == stage_id)
        )
        return float(self._database.connection.scalar(statement) or 0.0)

    def complete_facts(self, study_id: int, stage_id: int | None = None) -> FactRows:
        """Return the facts of the latest complete trials of a study, or of one of its stages, latest first."""
        wanted = _trial.study_id == study_id if stage_id is None else _trial.stage_id == stage_id
        statement = (
            select(_trial.facts)
            .where(wanted, _trial.state == TrialState.COMPLETE)
            .order_by(_trial.stage_id.desc(), _trial.ordinal.desc())
            .limit(LATEST)
        )
        return [RunFacts.of(facts) for facts in self._database.connection.scalars(statement)]

    def _locked(self, trial_id: int) -> TrialRow:
        row = self._find(select(schema.trial).where(_trial.id == trial_id).with_for_update(key_share=True))
        if row is None:
            raise missing(trial_id)
        return row

    def _find(self, statement: Select[Any]) -> TrialRow | None:
        row = self._database.connection.execute(statement).one_or_none()
        return None if row is None else TrialRow.read(row)

    def _all(self, statement: Select[Any]) -> TrialRows:
        return [TrialRow.read(row) for row in self._database.connection.execute(statement)]


def missing(trial_id: int) -> NotFoundError:
    """Return the error for a trial that is gone."""
    return NotFoundError(f"there is no trial {trial_id}: its study was deleted")
