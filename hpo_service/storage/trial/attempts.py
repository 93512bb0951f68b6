"""Attempts at trials: opened by a claim, closed once, with the device time that each took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, insert, literal, or_, select, update

from hpo_service.domain.decide.retry import PAUSES, SAME_WORKER
from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.endings import ENDINGS, FINAL, Ending
from hpo_service.domain.trial.states import TrialEvent, TrialState
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now, earlier
from hpo_service.storage.dialects.upsert import columns_of
from hpo_service.storage.trial.trial_rows import TrialRow

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
Seconds: TypeAlias = list[float]

LATEST = 20
"""Of so many of the latest attempts that reported it is said how long that took."""

ERROR = ENDINGS[TrialEvent.ERROR].closed_as
FAILURES = (ERROR, FINAL[TrialState.FAILED].closed_as)
"""What attempts that ended in an error are stored as."""


def pausing(worker_id: str) -> ColumnElement[bool]:
    """Whether a trial still waits out the pause after an error, for this worker: a condition on rows of `hpo_trial`.

    An error in the future, by a clock that was set back since, keeps nobody waiting.
    """
    pause = case(*((_trial.errors == count, pause) for count, pause in enumerate(PAUSES, 1)), else_=PAUSES[-1])
    times = case((_attempt.worker_id == worker_id, SAME_WORKER), else_=1.0)
    last = (_attempt.trial_id == _trial.id, _attempt.attempt == _trial.attempt, _attempt.outcome == ERROR)
    recent = _attempt.ended_at.between(Now() - pause * times, Now())
    return exists().where(*last, recent).correlate(schema.trial)


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

    def spent_on(self, stage_id: int) -> AttemptRows:
        """Return the last attempts of trials that are lost, or nearly, since the stage's last success; latest first.

        Those that failed for good, and those that wait after their retry failed too.
        """
        ours = _trial.stage_id == stage_id
        succeeded = ours & _trial.state.in_((TrialState.COMPLETE, TrialState.PRUNED)) & _trial.copied_from.is_(None)
        since = select(func.coalesce(func.max(_trial.ended_at), 0.0)).where(succeeded).correlate(None)
        nearly = (_trial.state == TrialState.WAITING) & (_trial.errors > 1)
        statement = (
            select(schema.attempt)
            .join(schema.trial, (_trial.id == _attempt.trial_id) & (_trial.attempt == _attempt.attempt))
            .where(ours, or_(_trial.state == TrialState.FAILED, nearly))
            .where(_attempt.outcome.in_(FAILURES), _attempt.ended_at > since.scalar_subquery())
        )
        return self._all(statement.order_by(_attempt.ended_at.desc(), _attempt.id.desc()))

    def device_seconds(self, stage_id: int) -> float:
        """Return the device time that the stage's attempts have taken so far, running ones included."""
        ended = select(func.sum(_trial.device_seconds)).where(_trial.stage_id == stage_id)
        so_far = (earlier(_trial.lease_until, Now()) - _attempt.started_at) * _attempt.devices
        running = (
            select(func.sum(so_far))
            .join(schema.trial, _trial.id == _attempt.trial_id)
            .where(_trial.stage_id == stage_id, _trial.state == TrialState.RUNNING, _attempt.ended_at.is_(None))
        )
        both = (self._database.connection.scalar(statement) for statement in (ended, running))
        return sum(float(seconds or 0.0) for seconds in both)

    def seconds_to_first_report(self, stage_id: int) -> Seconds:
        """Return how long the stage's latest attempts took to their first report, with which a checkpoint comes."""
        first = (
            select(func.min(schema.report.c.reported_at) - _attempt.started_at)
            .join(schema.trial, _trial.id == _attempt.trial_id)
            .join(
                schema.report,
                and_(schema.report.c.trial_id == _attempt.trial_id, schema.report.c.attempt == _attempt.attempt),
            )
            .where(_trial.stage_id == stage_id)
            .group_by(_attempt.id, _attempt.started_at)
            .order_by(_attempt.id.desc())
            .limit(LATEST)
        )
        return [float(seconds) for seconds in self._database.connection.scalars(first)]

    def _all(self, statement: Select[Any]) -> AttemptRows:
        return [AttemptRow(**columns_of(schema.attempt, row)) for row in self._database.connection.execute(statement)]
