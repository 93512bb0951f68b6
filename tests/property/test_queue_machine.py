"""Whatever is done to the stores, in whatever order, they agree with a model that fits on a page."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.endings import ENDINGS, FINAL
from hpo_service.domain.trial.planned import PlannedTrial
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialEvent, TrialState
from hpo_service.errors import ConflictError, StaleLeaseError
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trial.trials import TrialStore
from tests.pauses import let_pass

BUDGET = 12
NAMES = itertools.count()


class CrashError(Exception):
    """The process dies before its transaction is committed."""


@dataclass
class Trial:
    """What the model remembers of a trial."""

    id: int
    state: TrialState
    key: str | None = None
    claims: int = 0
    errors: int = 0
    losses: int = 0
    asked: bool = False
    late: bool = False
    steps: set[int] = field(default_factory=set)


class QueueMachine(RuleBasedStateMachine):
    """Workers, reapers, people and crashes against one stage of one study."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.db = database
        self.studies, self.trials = StudyStore(database), TrialStore(database)
        self.model: list[Trial] = []
        self.leases: list[Lease] = []
        spec = StudySpec.model_validate(
            {
                "name": f"study-{next(NAMES)}",
                "objective": {"python": "a:b"},
                "space": {"parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
            }
        )
        with self.db.transaction():
            self.study = self.studies.create(spec)
            stage = self.studies.open_stage(
                self.study.id,
                "search",
                optuna_name=spec.name,
                trials=BUDGET,
                gpu_hours=None,
                space=spec.space.resolve(),
                plan={},
                reason="the test needs it",
            )
        assert stage is not None
        self.stage = stage

    def teardown(self) -> None:
        """Take the study away: reapers look at all studies of a database."""
        with self.db.transaction():
            self.studies.delete(self.study.id)

    def holder(self, lease: Lease) -> Trial | None:
        """Return the trial that the model says this lease holds."""
        (trial,) = (t for t in self.model if t.id == lease.trial_id)
        return trial if trial.state is TrialState.RUNNING and trial.claims == lease.token else None

    def doomed(self, step) -> None:
        """Do a step in a transaction that dies before its commit."""
        with self.db.transaction():
            step()
            raise CrashError

    # workers

    @rule(key=st.none() | st.sampled_from("abcdef"))
    def admit(self, key):
        with self.db.transaction():
            self.studies.lock(self.study.id)
            if self.trials.tallies.total(self.stage.id) >= BUDGET:
                assert len(self.model) == BUDGET
                return
            trial = self._admit(key)
        taken = key is not None and key in {t.key for t in self.model}
        assert (trial is None) == taken
        if trial is not None:
            self.model.append(Trial(trial.id, TrialState.RUNNING, key, claims=1))
            self.leases.append(trial.lease)

    def _admit(self, key):
        return self.trials.admit(
            self.stage, parameters={}, dedupe_key=key, role="search", seed=1, worker_id="w", lease_seconds=1e6
        )

    @rule()
    def claim(self):
        let_pass(self.db)
        with self.db.transaction():
            row = self.trials.claim_waiting(self.stage.id, "w", 1e6)
        waiting = [t for t in self.model if t.state is TrialState.WAITING]
        assert (row is None) == (not waiting)
        if row is not None:
            trial = waiting[0]
            trial.state, trial.claims, trial.late = TrialState.RUNNING, trial.claims + 1, False
            assert (row.id, row.token, row.attempt) == (trial.id, trial.claims, trial.claims)
            self.leases.append(row.lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), step=st.integers(1, 4))
    def report(self, data, step):
        lease = data.draw(st.sampled_from(self.leases))
        trial = self.holder(lease)
        try:
            with self.db.transaction():
                row = self.trials.hold(lease)
                first = self.trials.reports.add(row, Report(step=step, fraction=step / 4, value=float(row.token)))
                extended = self.trials.extend(lease, 1e6, step / 4)
        except StaleLeaseError:
            assert trial is None
            return
        assert trial is not None
        assert first == (step not in trial.steps)
        assert (extended.cancel_reason is not None) == trial.asked
        trial.steps.add(step)
        trial.late = False

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), state=st.sampled_from(sorted(FINAL)))
    def finish(self, data, state):
        lease = data.draw(st.sampled_from(self.leases))
        trial = self.holder(lease)
        try:
            with self.db.transaction():
                self.trials.hold(lease)
                self.trials.settle(lease.trial_id, state, reason="over", value=1.0)
        except StaleLeaseError:
            assert trial is None
            return
        assert trial is not None
        trial.state = state

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), event=st.sampled_from([event for event, row in ENDINGS.items() if not row.state.final]))
    def give_back(self, data, event):
        lease = data.draw(st.sampled_from(self.leases))
        trial = self.holder(lease)
        try:
            with self.db.transaction():
                self.trials.hold(lease)
                self.trials.requeue(lease.trial_id, reason="given back", event=event)
        except StaleLeaseError:
            assert trial is None
            return
        assert trial is not None
        self._waits_again(trial, event)

    def _waits_again(self, trial, event):
        trial.state = TrialState.WAITING
        trial.errors += event is TrialEvent.ERROR
        trial.losses += event is TrialEvent.EXPIRE

    # silence, reapers, crashes

    @precondition(lambda self: any(t.state is TrialState.RUNNING for t in self.model))
    @rule(data=st.data())
    def fall_silent(self, data):
        trial = data.draw(st.sampled_from([t for t in self.model if t.state is TrialState.RUNNING]))
        with self.db.transaction():
            table = schema.trial
            late = table.update().where(table.c.id == trial.id).values(lease_until=Now() - 1)
            self.db.connection.execute(late)
        trial.late = True

    @rule()
    def reap(self):
        expected = {t.id for t in self.model if t.state is TrialState.RUNNING and t.late}
        taken = set()
        while True:
            with self.db.transaction():
                found = self.trials.expired(limit=1)
                if not found:
                    break
                self.trials.requeue(found[0].id, reason="fell silent", event=TrialEvent.EXPIRE)
                taken.add(found[0].id)
        assert taken == expected
        for trial in self.model:
            if trial.id in taken:
                self._waits_again(trial, TrialEvent.EXPIRE)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def crash_before_the_commit(self, data):
        trial = data.draw(st.sampled_from(self.model))
        step = data.draw(
            st.sampled_from(
                [
                    lambda: self._admit("crash"),
                    lambda: self.trials.claim_waiting(self.stage.id, "w", 60),
                    lambda: self.trials.plan(self.stage, [PlannedTrial(role="x", parameters={}, seed=1)]),
                    lambda: self.trials.bind(trial.id, 1, 1),
                    lambda: self.studies.delete(self.study.id),
                ]
            )
        )
        with pytest.raises(CrashError):
            self.doomed(step)

    # people

    @precondition(lambda self: len(self.model) < BUDGET)
    @rule(count=st.integers(1, 2))
    def plan(self, count):
        planned = [PlannedTrial(role="carried", parameters={}, seed=1)] * count
        with self.db.transaction():
            rows = self.trials.plan(self.stage, planned[: BUDGET - len(self.model)])
        self.model += [Trial(row.id, TrialState.WAITING) for row in rows]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data):
        trial = data.draw(st.sampled_from(self.model))
        try:
            with self.db.transaction():
                self.trials.cancel(trial.id, "asked for")
        except ConflictError:
            assert trial.state.final
            return
        assert not trial.state.final
        if trial.state is TrialState.RUNNING:
            trial.asked = True
        else:
            trial.state = TrialState.CANCELLED

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def retry(self, data):
        trial = data.draw(st.sampled_from(self.model))
        try:
            with self.db.transaction():
                self.trials.retry(trial.id)
        except ConflictError:
            assert trial.state not in (TrialState.FAILED, TrialState.CANCELLED)
            return
        assert trial.state in (TrialState.FAILED, TrialState.CANCELLED)
        trial.state, trial.errors, trial.losses, trial.asked = TrialState.WAITING, 0, 0, False
        trial.steps.clear()

    def stage_total(self):
        with self.db.transaction(read_only=True):
            return self.trials.tallies.total(self.stage.id)

    # what is always true

    @invariant()
    def the_rows_are_the_models(self):
        with self.db.transaction(read_only=True):
            rows = self.trials.list(self.study.id)
            curves = {(report.trial_id, report.step) for report in self.trials.reports.in_study(self.study.id)}
        assert [(r.id, r.state, r.dedupe_key, r.token, r.errors, r.losses) for r in rows] == [
            (t.id, t.state, t.key, t.claims, t.errors, t.losses) for t in self.model
        ]
        assert [row.ordinal for row in rows] == list(range(len(rows)))
        assert self.stage_total() == len(rows) <= BUDGET
        assert curves == {(t.id, step) for t in self.model for step in t.steps}

    @invariant()
    def a_trial_has_a_holder_and_an_open_attempt_only_while_it_runs(self):
        with self.db.transaction(read_only=True):
            rows = self.trials.list(self.study.id)
            attempts = {row.id: self.trials.attempts.of(row.id) for row in rows}
        for row in rows:
            running = row.state is TrialState.RUNNING
            assert (row.worker_id is not None) == (row.lease_until is not None) == running
            assert [a.attempt for a in attempts[row.id]] == list(range(1, row.attempt + 1))
            assert sum(a.ended_at is None for a in attempts[row.id]) == running
            assert (row.ended_at is not None) == row.state.final

    @invariant()
    def at_most_one_lease_holds_a_trial(self):
        live = [lease.trial_id for lease in self.leases if self.holder(lease)]
        assert len(live) == len(set(live))


def test_the_queue_agrees_with_its_model(migrated_url):
    database = Database(migrated_url)

    class Machine(QueueMachine):
        def __init__(self) -> None:
            super().__init__(database)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        ),
    )
    with database.transaction():
        assert StudyStore(database).list() == []
    database.dispose()
