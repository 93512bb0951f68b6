"""Trials and their leases: planned, claimed, held by a fencing token, settled once, with every attempt kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import and_, func, not_, or_, select, update

from hpo_service.domain.events import EventKind
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.endings import ENDINGS, FINAL, Ending
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.planned import PlannedTrial
from hpo_service.domain.trial.states import TrialEvent, TrialState, next_state
from hpo_service.errors import ConflictError, NotFoundError, StaleLeaseError
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.events import EventStore
from hpo_service.storage.studies import StageRow
from hpo_service.storage.trial.attempts import AttemptStore, pausing
from hpo_service.storage.trial.reports import ReportStore
from hpo_service.storage.trial.scores import ScoreStore
from hpo_service.storage.trial.tallies import TallyStore
from hpo_service.storage.trial.trial_rows import TrialRow, TrialRows, TrialTable, missing
from hpo_service.storage.values import finite, plain, with_lost

__all__ = ["TrialRow", "TrialStore"]

FactRows: TypeAlias = list[RunFacts]

LATEST = 20
"""Trials that `complete_facts` returns: enough for a median."""
TOO_FAR = 1.5
"""A lease that reaches so many lease lengths from now was not set by this clock."""

_trial = schema.trial.c


class TrialStore:
    """Reads and writes `hpo_trial`; what hangs on a trial has stores of its own: attempts, reports and scores.

    Every method belongs inside `database.transaction()`. A running trial belongs to the holder of its token alone;
    `hold` and `extend` are the fence. What they return stays locked until the transaction ends, so the holder's other
    writes in it are safe. Only the reaper and people's requests write about a running trial without its lease. Every
    change of state asks `domain.states.next_state`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = TrialTable(database)
        self.attempts = AttemptStore(database)
        self.reports = ReportStore(database)
        self.scores = ScoreStore(database)
        self.tallies = TallyStore(database)
        self.events = EventStore(database)

    # what people, the budget and the reaper ask

    def get(self, trial_id: int) -> TrialRow:
        """Return the trial of that id.

        Raises:
            NotFoundError: there is none.
        """
        row = self._rows.find(select(schema.trial).where(_trial.id == trial_id))
        if row is None:
            raise missing(trial_id)
        return row

    def numbered(self, stage: StageRow, number: int) -> TrialRow:
        """Return the stage's trial of that Optuna number.

        Raises:
            NotFoundError: there is none.
        """
        row = self._rows.find(select(schema.trial).where(_trial.stage_id == stage.id, _trial.number == number))
        if row is None:
            study = stage.optuna_name.removesuffix(f"/{stage.stage}")
            raise NotFoundError(
                f"stage {stage.optuna_name} has no trial number {number}: see `hpo-service study show {study}`"
            )
        return row

    def among(self, ids: Collection[int]) -> TrialRows:
        """Return those of these trials that there are."""
        return self._rows.all(select(schema.trial).where(_trial.id.in_(ids)))

    def list(self, study_id: int, stage_id: int | None = None) -> TrialRows:
        """Return the trials of a study, or of one of its stages, in the order they came to be."""
        statement = select(schema.trial).where(_trial.study_id == study_id)
        if stage_id is not None:
            statement = statement.where(_trial.stage_id == stage_id)
        return self._rows.all(statement.order_by(_trial.stage_id, _trial.ordinal))

    def find_key(self, stage_id: int, dedupe_key: str) -> TrialRow | None:
        """Return the stage's trial with this configuration, or None."""
        return self._rows.find(select(schema.trial).where(_trial.stage_id == stage_id, _trial.dedupe_key == dedupe_key))

    def complete_facts(self, study_id: int, stage_id: int | None = None) -> FactRows:
        """Return the facts of the latest complete trials of a study, or of one of its stages, latest first."""
        stage = schema.stage.c
        latest_first = select(stage.id).where(stage.study_id == study_id).order_by(stage.id.desc())
        stages = [stage_id] if stage_id is not None else self._database.connection.scalars(latest_first).all()
        found: FactRows = []
        for each in stages:  # one by one, for then the index gives them in order
            complete = select(_trial.facts).where(_trial.stage_id == each, _trial.state == TrialState.COMPLETE)
            latest = complete.order_by(_trial.ordinal.desc()).limit(LATEST - len(found))
            found += [RunFacts.of(facts) for facts in self._database.connection.scalars(latest)]
        return found

    def expired(
        self,
        limit: int | None = None,
        but_not: Collection[int] = (),
        study_id: int | None = None,
        held: Collection[int] = (),
    ) -> TrialRows:
        """Return running trials whose lease is over or missing, locked, passing over those that are being settled.

        Args:
            limit: at most so many.
            but_not: ids of studies whose trials are left alone.
            study_id: only of this study.
            held: ids of trials that are left alone.
        """
        statement = (
            select(schema.trial)
            .where(_trial.state == TrialState.RUNNING)
            .where(or_(_trial.lease_until < Now(), _trial.lease_until.is_(None)))
            .where(_trial.study_id.not_in(but_not) if study_id is None else _trial.study_id == study_id)
            .where(_trial.id.not_in(held))
            .order_by(_trial.lease_until, _trial.id)
            .limit(limit)
            .with_for_update(skip_locked=True, key_share=True)
        )
        return self._rows.all(statement)

    # how trials come to be

    def plan(self, stage: StageRow, planned: Sequence[PlannedTrial]) -> TrialRows:
        """Add waiting trials to a stage that the caller has locked; ordinals continue."""
        first = self.tallies.total(stage.id)
        rows = [self._rows.insert(stage, trial, first + i, TrialState.WAITING) for i, trial in enumerate(planned)]
        for row, trial in zip(rows, planned, strict=True):
            self.events.of_trial(EventKind.TRIAL_PROMOTED, row, trial.reason, label=trial.label)
        return rows

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
        share: float = 1.0,
    ) -> TrialRow | None:
        """Add a trial that this worker runs at once, to a stage whose study or row the caller has locked.

        Without a worker the caller settles it in the same transaction. None where `dedupe_key` is taken in this stage.
        """
        if dedupe_key is not None and self.find_key(stage.id, dedupe_key) is not None:
            return None
        planned = PlannedTrial(role=role, parameters=dict(parameters), seed=seed, dedupe_key=dedupe_key, share=share)
        ordinal = self.tallies.total(stage.id)
        if worker_id is None:
            return self._rows.insert(stage, planned, ordinal, TrialState.RUNNING, started_at=Now())
        held = {
            "attempt": 1,
            "token": 1,
            "worker_id": worker_id,
            "lease_until": Now() + lease_seconds,
            "started_at": Now(),
            "reason": f"taken by {worker_id}",
        }
        row = self._rows.insert(stage, planned, ordinal, TrialState.RUNNING, **held)
        self.attempts.open(row, devices)
        return row

    def claim_waiting(
        self, stage_id: int, worker_id: str, lease_seconds: float, devices: float = 1.0
    ) -> TrialRow | None:
        """Take the oldest waiting trial of a stage, passing over those that others are taking now.

        So too those that wait out a pause after an error, which is longer for the worker that failed them.

        Args:
            stage_id: of the stage.
            worker_id: the new holder.
            lease_seconds: how long the lease lasts without being extended.
            devices: devices this attempt occupies, for the account; a fraction where trials share one.
        """
        oldest = (
            select(_trial.id)
            .where(_trial.stage_id == stage_id, _trial.state.in_(_sources(TrialEvent.CLAIM)))
            .where(or_(_trial.errors == 0, not_(pausing(worker_id))))
            .order_by(_trial.ordinal)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        row = self._rows.change_where(
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
            self.attempts.open(row, devices)
        return row

    def bind(self, trial_id: int, optuna_id: int, number: int) -> None:
        """Note which Optuna trial this is."""
        self._rows.change(trial_id, optuna_id=optuna_id, number=number)

    # what its holder writes

    def hold(self, lease: Lease) -> TrialRow:
        """Return the trial, locked, if the lease still holds it.

        A lease whose time is over holds until someone else settles it: the token decides.

        Raises:
            StaleLeaseError: it does not; nothing may be written.
        """
        row = self._rows.find(select(schema.trial).where(_trial.id == lease.trial_id).with_for_update(key_share=True))
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
        row = self._rows.change_where(held, lease_until=Now() + seconds, **done)
        return self.hold(lease) if row is None else row

    def shorten_leases(self, stage_id: int, lease_seconds: float) -> int:
        """Cut leases of a stage that reach further than `lease_seconds` from now, and count them.

        No claim or renewal sets such a lease: the database's clock went back after it was set, and without this a
        dead holder's trial would wait for as long as the clock was wrong.
        """
        too_far = and_(
            _trial.stage_id == stage_id,
            _trial.state == TrialState.RUNNING,
            _trial.lease_until > Now() + TOO_FAR * lease_seconds,
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
        facts: RunFacts | None = None,
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
        if state not in FINAL:
            raise ConflictError(f"trial {trial_id}: {state} is not an end; use requeue")
        return self._end(
            self._rows.locked(trial_id),
            FINAL[state],
            reason=with_lost(reason, value),
            measured=device_seconds,
            value=finite(value),
            adapter=adapter,
            facts=plain(facts.flat() if facts else {}),
            copied_from=copied_from,
            ended_at=Now(),
        )

    def requeue(self, trial_id: int, event: TrialEvent, *, reason: str) -> TrialRow:
        """Give a running trial back: it waits and keeps its number.

        Args:
            trial_id: of the trial.
            event: how the attempt counts: as an error, as a loss with its worker, or, released on purpose, as neither.
            reason: why, for people.

        Raises:
            ConflictError: the trial is not running, or the event would end it.
            NotFoundError: there is no such trial.
        """
        ending = ENDINGS[event]
        if ending.state.final:
            raise ConflictError(f"trial {trial_id}: {event} ends a trial; use settle")
        trial = self._rows.locked(trial_id)
        counted = {} if ending.counts is None else {ending.counts: getattr(trial, ending.counts) + 1}
        return self._end(trial, ending, reason=reason, **counted)

    def cancel(self, trial_id: int, reason: str) -> TrialRow:
        """End a waiting trial at once, or ask the holder of a running one to; its next step obeys.

        Raises:
            ConflictError: the trial has ended.
            NotFoundError: there is no such trial.
        """
        trial = self._rows.locked(trial_id)
        self._after(trial, TrialEvent.CANCEL)
        if trial.state is TrialState.RUNNING:
            return self._rows.change(trial_id, cancel_reason=reason)
        return self.settle(trial_id, TrialState.CANCELLED, reason=reason)

    def forgive(self, trial_id: int) -> TrialRow:
        """Forget the errors of a trial that waits: their cause is mended, and its next attempt is the first again."""
        return self._rows.change(trial_id, errors=0)

    def retry(self, trial_id: int) -> TrialRow:
        """Have a failed or cancelled trial run again from the start, as a new Optuna trial in the same place.

        Its attempts stay in the history; its reports and scores go, for they belong to the old Optuna trial.

        Raises:
            ConflictError: the trial neither failed nor was cancelled.
            NotFoundError: there is no such trial.
        """
        trial = self._rows.locked(trial_id)
        target = self._after(trial, TrialEvent.RETRY)
        for table in (schema.report, schema.score):
            self._database.connection.execute(table.delete().where(table.c.trial_id == trial_id))
        nothing = dict.fromkeys(["number", "optuna_id", "value", "cancel_reason", "adapter", "ended_at"])
        return self._rows.change(
            trial_id,
            state=target,
            errors=0,
            losses=0,
            progress=0.0,
            facts={},
            reason="to be tried again",
            **nothing,
        )

    def _end(
        self, trial: TrialRow, ending: Ending, *, reason: str, measured: float | None = None, **values: Any
    ) -> TrialRow:
        target = self._after(trial, ending.event)
        spent = trial.device_seconds + self.attempts.close(trial, ending, reason, measured)
        freed = {"worker_id": None, "lease_until": None, "device_seconds": spent}
        return self._rows.change(trial.id, state=target, reason=reason, **freed, **values)

    def _after(self, trial: TrialRow, event: TrialEvent) -> TrialState:
        target = next_state(trial.state, event)
        if target is None:
            raise ConflictError(
                f"trial {trial.id} is {trial.state} ({trial.reason}): {event} is not possible from there"
            )
        return target


def _sources(event: TrialEvent) -> Sequence[TrialState]:
    return [state for state in TrialState if next_state(state, event) is not None]


def _target(event: TrialEvent) -> TrialState:
    (target,) = {next_state(state, event) for state in _sources(event)}
    assert target is not None
    return target
