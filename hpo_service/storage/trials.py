"""Trials and their leases: planned, claimed, held by a fencing token, settled once, with every attempt kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, func, insert, literal, select, update

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.planned import PlannedTrial
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialEvent, TrialState, next_state
from hpo_service.errors import ConflictError, StaleLeaseError
from hpo_service.storage import schema
from hpo_service.storage.clock import Now, earlier
from hpo_service.storage.studies import StageRow
from hpo_service.storage.trial_reader import TrialReader, TrialRows, missing
from hpo_service.storage.trial_rows import AttemptRow, ReportRow, TrialRow
from hpo_service.storage.upsert import insert_once
from hpo_service.storage.values import finite, lost, plain, with_lost

__all__ = ["AttemptRow", "PlannedTrial", "ReportRow", "TrialRow", "TrialStore"]

SETTLED_BY: dict[TrialState, TrialEvent] = {
    TrialState.COMPLETE: TrialEvent.COMPLETE,
    TrialState.PRUNED: TrialEvent.PRUNE,
    TrialState.INFEASIBLE: TrialEvent.INFEASIBLE,
    TrialState.FAILED: TrialEvent.GIVE_UP,
    TrialState.CANCELLED: TrialEvent.CANCEL,
}
"""The event that brings a trial to each final state."""

GivingBack = Literal["error", "loss", "release"]

GIVEN_BACK_BY: dict[GivingBack, TrialEvent] = {
    "error": TrialEvent.ERROR,
    "loss": TrialEvent.EXPIRE,
    "release": TrialEvent.RELEASE,
}
"""The event that gives a trial back after an attempt without a result."""

_trial = schema.trial.c
_attempt = schema.attempt.c


class TrialStore(TrialReader):
    """Writes `hpo_trial` and what hangs on it. Every method belongs inside `database.transaction()`.

    A running trial belongs to the holder of its token alone; `hold` and `extend` are the fence. What they return
    stays locked until the transaction ends, so the holder's other writes in it are safe. Only the reaper and
    people's requests write about a running trial without its lease. Every change of state asks
    `domain.states.next_state`.
    """

    # how trials come to be

    def plan(self, stage: StageRow, planned: Sequence[PlannedTrial]) -> TrialRows:
        """Add waiting trials to a stage that the caller has locked; ordinals continue."""
        first = self.total(stage.id)
        return [self._insert(stage, trial, first + i, TrialState.WAITING) for i, trial in enumerate(planned)]

    def admit(
        self,
        stage: StageRow,
        *,
        parameters: Mapping[str, ParameterValue],
        dedupe_key: str | None,
        role: str,
        seed: int,
        worker_id: str | None,
        lease_seconds: float,
        devices: float = 1.0,
    ) -> TrialRow | None:
        """Add a trial that this worker runs at once, to a stage whose study or row the caller has locked.

        Without a worker nothing runs: the caller settles the trial in the same transaction.

        Returns:
            The trial, or None where `dedupe_key` is taken in this stage.
        """
        if dedupe_key is not None and self.find_key(stage.id, dedupe_key) is not None:
            return None
        planned = PlannedTrial(role=role, parameters=dict(parameters), seed=seed, dedupe_key=dedupe_key)
        ordinal = self.total(stage.id)
        if worker_id is None:
            return self._insert(stage, planned, ordinal, TrialState.RUNNING, started_at=Now())
        held = {
            "attempt": 1,
            "token": 1,
            "worker_id": worker_id,
            "lease_until": Now() + lease_seconds,
            "started_at": Now(),
            "reason": f"taken by {worker_id}",
        }
        row = self._insert(stage, planned, ordinal, TrialState.RUNNING, **held)
        self._open_attempt(row, devices)
        return row

    def claim_waiting(
        self, stage_id: int, worker_id: str, lease_seconds: float, devices: float = 1.0
    ) -> TrialRow | None:
        """Take the oldest waiting trial of a stage, passing over those that others are taking now.

        Args:
            stage_id: of the stage.
            worker_id: the new holder.
            lease_seconds: how long the lease lasts without being extended.
            devices: devices this attempt occupies, for the account; a fraction where trials share one.
        """
        oldest = (
            select(_trial.id)
            .where(_trial.stage_id == stage_id, _trial.state.in_(_sources(TrialEvent.CLAIM)))
            .order_by(_trial.ordinal)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        row = self._update(
            _trial.id == oldest.scalar_subquery(),
            state=_target(TrialEvent.CLAIM),
            attempt=_trial.attempt + 1,
            token=_trial.token + 1,
            worker_id=worker_id,
            lease_until=Now() + lease_seconds,
            started_at=func.coalesce(_trial.started_at, Now()),
            reason=f"taken by {worker_id}",
        )
        if row is not None:
            self._open_attempt(row, devices)
        return row

    def bind(self, trial_id: int, optuna_id: int, number: int) -> None:
        """Note which Optuna trial this is."""
        if self._update(_trial.id == trial_id, optuna_id=optuna_id, number=number) is None:
            raise missing(trial_id)

    # what its holder writes

    def hold(self, lease: Lease) -> TrialRow:
        """Return the trial, locked, if the lease still holds it.

        A lease whose time is over holds until someone else settles it: the token decides.

        Raises:
            StaleLeaseError: it does not; nothing may be written.
        """
        row = self._find(select(schema.trial).where(_trial.id == lease.trial_id).with_for_update(key_share=True))
        if row is None:
            raise StaleLeaseError(f"trial {lease.trial_id} was deleted: stop working on it")
        if row.state is not TrialState.RUNNING or row.token != lease.token:
            raise StaleLeaseError(
                f"trial {lease.trial_id} is no longer held by claim {lease.token} "
                f"(it is {row.state}, claim {row.token}: {row.reason}): stop working on it"
            )
        return row

    def extend(self, lease: Lease, seconds: float, progress: float | None = None) -> TrialRow:
        """Prolong the lease to `seconds` from now, and note the share of the training done.

        Raises:
            StaleLeaseError: the lease no longer holds the trial; nothing was written.
        """
        held = and_(_trial.id == lease.trial_id, _trial.token == lease.token, _trial.state == TrialState.RUNNING)
        done = {} if finite(progress) is None else {"progress": progress}
        row = self._update(held, lease_until=Now() + seconds, **done)
        return self.hold(lease) if row is None else row

    def record(self, trial: TrialRow, report: Report) -> bool:
        """Write a report of a trial that the caller holds.

        Returns:
            False where the step was reported before: the first report of a step stands, so that an attempt that
            resumes from a checkpoint cannot rewrite what pruning has already seen.
        """
        values = {
            "trial_id": trial.id,
            "step": report.step,
            "attempt": trial.attempt,
            "fraction": report.fraction,
            "value": finite(report.value),
            "note": lost(report.value),
            "metrics": plain(report.metrics),
            "reported_at": Now(),
        }
        statement = insert_once(self._database, schema.report, values, unique=["trial_id", "step"])
        written = self._database.connection.execute(statement.returning(schema.report.c.step))
        return written.one_or_none() is not None

    def shorten_leases(self, stage_id: int, lease_seconds: float) -> int:
        """Cut leases of a stage that reach further than `lease_seconds` from now, and count them.

        No claim or renewal sets such a lease: the database's clock went back after it was set, and without this a
        dead holder's trial would wait for as long as the clock was wrong.
        """
        too_far = and_(
            _trial.stage_id == stage_id,
            _trial.state == TrialState.RUNNING,
            _trial.lease_until > Now() + 1.5 * lease_seconds,
        )
        statement = update(schema.trial).where(too_far).values(lease_until=Now() + lease_seconds)
        return self._database.connection.execute(statement).rowcount

    # how it ends, or begins again

    def settle(
        self,
        trial_id: int,
        state: TrialState,
        *,
        reason: str,
        value: float | None = None,
        adapter: str | None = None,
        facts: Mapping[str, float | int | str] | None = None,
        copied_from: int | None = None,
        device_seconds: float | None = None,
    ) -> TrialRow:
        """End a trial: write how, close its attempt, and account for its time.

        Args:
            trial_id: of a trial the caller holds, or that nobody holds any more.
            state: a final state.
            reason: why, for people.
            value: the final measure; NaN and infinity become null, and the reason says so.
            adapter: folder of the adapter, where one is kept.
            facts: what the holder measured.
            copied_from: the trial whose value this one repeats instead of measuring it.
            device_seconds: what this attempt had of devices that it shared, where its holder measured that; by
                default the time since its claim on the devices that it was given.

        Raises:
            ConflictError: the trial's present state does not lead there.
            NotFoundError: there is no such trial.
        """
        if state not in SETTLED_BY:
            raise ConflictError(f"trial {trial_id}: {state} is not an end; use requeue")
        trial = self._locked(trial_id)
        target = self._after(trial, SETTLED_BY[state])
        return self._end_attempt(
            trial,
            outcome=state.value,
            state=target,
            reason=with_lost(reason, value),
            value=finite(value),
            adapter=adapter,
            facts=plain(facts or {}),
            copied_from=copied_from,
            ended_at=Now(),
            measured=device_seconds,
        )

    def requeue(self, trial_id: int, *, reason: str, kind: GivingBack) -> TrialRow:
        """Give a running trial back: it waits and keeps its number.

        Args:
            trial_id: of the trial.
            reason: why, for people.
            kind: how the attempt counts: as an error, as a loss with its worker, or, released on purpose, as neither.

        Raises:
            ConflictError: the trial is not running.
            NotFoundError: there is no such trial.
        """
        trial = self._locked(trial_id)
        target = self._after(trial, GIVEN_BACK_BY[kind])
        errors, losses = trial.errors + (kind == "error"), trial.losses + (kind == "loss")
        return self._end_attempt(trial, outcome=kind, state=target, reason=reason, errors=errors, losses=losses)

    def cancel(self, trial_id: int, reason: str) -> TrialRow:
        """End a waiting trial at once, or ask the holder of a running one to; its next step obeys.

        Raises:
            ConflictError: the trial has ended.
            NotFoundError: there is no such trial.
        """
        trial = self._locked(trial_id)
        self._after(trial, TrialEvent.CANCEL)
        if trial.state is TrialState.RUNNING:
            return self._write(trial_id, cancel_reason=reason)
        return self.settle(trial_id, TrialState.CANCELLED, reason=reason)

    def retry(self, trial_id: int) -> TrialRow:
        """Have a failed or cancelled trial run again from the start, as a new Optuna trial in the same place.

        Its attempts stay in the history; its reports and scores go, for they belong to the old Optuna trial.

        Raises:
            ConflictError: the trial neither failed nor was cancelled.
            NotFoundError: there is no such trial.
        """
        trial = self._locked(trial_id)
        target = self._after(trial, TrialEvent.RETRY)
        for table in (schema.report, schema.score):
            self._database.connection.execute(table.delete().where(table.c.trial_id == trial_id))
        nothing = dict.fromkeys(["number", "optuna_id", "value", "cancel_reason", "adapter", "ended_at"])
        return self._write(
            trial_id,
            state=target,
            errors=0,
            losses=0,
            progress=0.0,
            facts={},
            reason="to be tried again",
            **nothing,
        )

    # the few statements everything above is made of

    def _insert(self, stage: StageRow, planned: PlannedTrial, ordinal: int, state: TrialState, **held: Any) -> TrialRow:
        values = {
            "study_id": stage.study_id,
            "stage_id": stage.id,
            "ordinal": ordinal,
            "state": state,
            "role": planned.role,
            "label": planned.label,
            "parameters": plain(planned.parameters),
            "dedupe_key": planned.dedupe_key,
            "seed": planned.seed,
            "origin_id": planned.origin_id,
            "score_test": planned.score_test,
            "keep_adapter": planned.keep_adapter,
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

    def _open_attempt(self, trial: TrialRow, devices: float) -> None:
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

    def _end_attempt(
        self, trial: TrialRow, *, outcome: str, reason: str, measured: float | None = None, **values: Any
    ) -> TrialRow:
        # silence after the lease is not counted: nobody knows whether anything ran
        limited = outcome == "loss" and trial.lease_until is not None
        end = earlier(literal(trial.lease_until), Now()) if limited else Now()
        closed = self._database.connection.execute(
            update(schema.attempt)
            .where(_attempt.trial_id == trial.id, _attempt.ended_at.is_(None))
            .values(
                ended_at=end,
                outcome=outcome,
                reason=reason,
                device_seconds=(end - _attempt.started_at) * _attempt.devices if measured is None else measured,
            )
            .returning(_attempt.device_seconds)
        )
        seconds = trial.device_seconds + sum(max(0.0, spent or 0.0) for (spent,) in closed)
        return self._write(trial.id, reason=reason, worker_id=None, lease_until=None, device_seconds=seconds, **values)

    def _after(self, trial: TrialRow, event: TrialEvent) -> TrialState:
        target = next_state(trial.state, event)
        if target is None:
            raise ConflictError(
                f"trial {trial.id} is {trial.state} ({trial.reason}): {event} is not possible from there"
            )
        return target

    def _write(self, trial_id: int, **values: Any) -> TrialRow:
        row = self._update(_trial.id == trial_id, **values)
        if row is None:
            raise missing(trial_id)
        return row

    def _update(self, where: ColumnElement[bool], **values: Any) -> TrialRow | None:
        statement = update(schema.trial).where(where).values(**values).returning(schema.trial)
        row = self._database.connection.execute(statement).one_or_none()
        return None if row is None else TrialRow.read(row)


def _sources(event: TrialEvent) -> Sequence[TrialState]:
    return [state for state in TrialState if next_state(state, event) is not None]


def _target(event: TrialEvent) -> TrialState:
    (target,) = {next_state(state, event) for state in _sources(event)}
    assert target is not None
    return target
