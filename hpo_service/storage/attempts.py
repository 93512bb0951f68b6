"""Attempts at trials: opened by a claim, closed once, with the device time that each took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Select, func, insert, literal, select, update

from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.endings import Ending
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.sql.clock import Now, earlier
from hpo_service.storage.sql.upsert import columns_of
from hpo_service.storage.trial_rows import TrialRow

_trial = schema.trial.c
_attempt = schema.attempt.c


@dataclass(frozen=True)
class AttemptRow:
    """One claim of a trial: by whom, how it ended (None while it runs), and the device time it took."""

    id: int
    trial_id: int
    attempt: int
    token: int
    worker_id: str
    devices: float
    started_at: float
    ended_at: float | None
    outcome: str | None
    reason: str
    device_seconds: float | None


AttemptRows: TypeAlias = list[AttemptRow]


class AttemptStore:
    """Reads and writes `hpo_attempt`. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, trial: TrialRow, devices: float) -> None:
        """Begin the attempt of a trial that was just claimed, on so many devices."""
        values = {
            "trial_id": trial.id,
            "attempt": trial.attempt,
            "token": trial.token,
            "worker_id": trial.worker_id,
            "devices": devices,
            "started_at": Now(),
            "reason": "",
        }
        self._database.connection.execute(insert(schema.attempt).values(values))

    def close(self, trial: TrialRow, ending: Ending, reason: str, measured: float | None = None) -> float:
        """End the trial's open attempt, if it has one, and return the device seconds it took.

        Args:
            trial: whose attempt it is.
            ending: how it ended.
            reason: why, for people.
            measured: device seconds where its holder measured them; by default the time since the claim on the
                devices it was given.
        """
        # silence after the lease is not counted: nobody knows whether anything ran
        silent = ending.counts == "losses" and trial.lease_until is not None
        end = earlier(literal(trial.lease_until), Now()) if silent else Now()
        closed = self._database.connection.execute(
            update(schema.attempt)
            .where(_attempt.trial_id == trial.id, _attempt.ended_at.is_(None))
            .values(
                ended_at=end,
                outcome=ending.closed_as,
                reason=reason,
                device_seconds=(end - _attempt.started_at) * _attempt.devices if measured is None else measured,
            )
            .returning(_attempt.device_seconds)
        )
        return sum(max(0.0, spent or 0.0) for (spent,) in closed)

    def of(self, trial_id: int) -> AttemptRows:
        """Return the trial's attempts, first to last."""
        return self._all(select(schema.attempt).where(_attempt.trial_id == trial_id).order_by(_attempt.attempt))

    def of_lease(self, lease: Lease) -> AttemptRow | None:
        """Return the attempt that a lease was given for, or None where its trial is gone."""
        held = (_attempt.trial_id == lease.trial_id, _attempt.token == lease.token)
        return next(iter(self._all(select(schema.attempt).where(*held))), None)

    def in_study(self, study_id: int) -> AttemptRows:
        """Return the attempts of all trials of a study, by trial, first to last."""
        statement = select(schema.attempt).join(schema.trial, _trial.id == _attempt.trial_id)
        return self._all(statement.where(_trial.study_id == study_id).order_by(_attempt.trial_id, _attempt.attempt))

    def device_seconds(self, stage_id: int) -> float:
        """Return the device time that the stage's attempts have taken so far, running ones included."""
        so_far = (earlier(_trial.lease_until, Now()) - _attempt.started_at) * _attempt.devices
        statement = (
            select(func.sum(func.coalesce(_attempt.device_seconds, so_far)))
            .join(schema.trial, _trial.id == _attempt.trial_id)
            .where(_trial.stage_id == stage_id)
        )
        return float(self._database.connection.scalar(statement) or 0.0)

    def _all(self, statement: Select[Any]) -> AttemptRows:
        return [AttemptRow(**columns_of(schema.attempt, row)) for row in self._database.connection.execute(statement)]
