"""The contract of leases, on every kind of database: one holder, decided by the token, and nothing lost."""

from __future__ import annotations

import math
from itertools import product

import pytest

from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.endings import FINAL
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.planned import PlannedTrial
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialEvent, TrialState, next_state
from hpo_service.errors import ConflictError, NotFoundError, StaleLeaseError
from hpo_service.storage import schema
from hpo_service.storage.dialects.clock import Now


def report(step=1, value=2.5, **metrics):
    return Report(step=step, fraction=step / 8, value=value, metrics=metrics)


class TestAdmission:
    def test_an_admitted_trial_runs_under_a_lease_with_its_first_attempt_open(self, world):
        trial = world.admit(key="a")
        assert (trial.state, trial.ordinal, trial.attempt, trial.token) == (TrialState.RUNNING, 0, 1, 1)
        assert trial.worker_id == "w1"
        assert trial.lease_until - trial.started_at == pytest.approx(60, abs=1)
        with world.db.transaction():
            (attempt,) = world.trials.attempts.of(trial.id)
        assert (attempt.worker_id, attempt.ended_at, attempt.outcome) == ("w1", None, None)

    def test_a_configuration_is_admitted_once_per_stage(self, world):
        world.admit(key="a")
        with world.db.transaction():
            again = world.trials.admit(
                world.stage,
                parameters={},
                dedupe_key="a",
                role="search",
                seed=1,
                worker_id="w2",
                lease_seconds=60,
            )
            assert again is None
            assert world.trials.tallies.total(world.stage.id) == 1
            assert [row.dedupe_key for row in world.trials.list(world.study.id, world.stage.id)] == ["a"]
            assert world.trials.find_key(world.stage.id, "a").ordinal == 0
            assert world.trials.find_key(world.stage.id, "b") is None

    def test_trials_without_a_key_may_repeat_a_configuration(self, world):
        assert [world.admit().ordinal, world.admit().ordinal] == [0, 1]

    def test_a_copy_runs_nowhere_and_leaves_no_attempt(self, world):
        measured = world.admit(key="a")
        with world.db.transaction():
            copy = world.trials.admit(
                world.stage,
                parameters={"learning_rate": 1e-4},
                dedupe_key=None,
                role="search",
                seed=1,
                worker_id=None,
                lease_seconds=0,
            )
            world.trials.settle(copy.id, TrialState.COMPLETE, reason="reused", value=2.0, copied_from=measured.id)
            assert world.trials.attempts.of(copy.id) == []
        assert world.get(copy.id).copied_from == measured.id
        assert world.get(copy.id).device_seconds == 0

    def test_planned_trials_wait_in_order_after_those_that_are_there(self, world):
        world.admit()
        rows = world.plan(3)
        assert [(row.ordinal, row.state) for row in rows] == [(i, TrialState.WAITING) for i in (1, 2, 3)]

    def test_a_planned_trial_keeps_what_it_is_for(self, world):
        origin = world.admit()
        planned = PlannedTrial(
            role="winner",
            parameters={"lora_rank": 8, "scheduler": "cosine", "rate": 1e-5, "flag": True},
            seed=2**40,
            label="best",
            origin_id=origin.id,
            score_test=True,
            keep_adapter=True,
            share=0.125,
        )
        with world.db.transaction():
            (row,) = world.trials.plan(world.stage, [planned])
        row = world.get(row.id)
        assert row.parameters == planned.parameters
        assert [type(value) for value in row.parameters.values()] == [int, str, float, bool]
        assert (row.role, row.label, row.seed, row.origin_id) == ("winner", "best", 2**40, origin.id)
        assert row.score_test
        assert row.keep_adapter
        assert row.share == 0.125


class TestClaims:
    def test_the_oldest_waiting_trial_is_claimed_first(self, world):
        world.plan(2)
        assert [world.claim().ordinal, world.claim().ordinal, world.claim()] == [0, 1, None]

    def test_a_claim_opens_a_new_attempt_with_a_new_token(self, world):
        (planned,) = world.plan(1)
        claimed = world.claim("w7")
        assert claimed.id == planned.id
        assert (claimed.attempt, claimed.token, claimed.worker_id) == (1, 1, "w7")
        with world.db.transaction():
            world.trials.requeue(claimed.id, reason="the GPU is gone", event=TrialEvent.ERROR)
        again = world.claim("w8")
        assert (again.attempt, again.token, again.started_at) == (2, 2, claimed.started_at)
        with world.db.transaction():
            history = world.trials.attempts.of(claimed.id)
        assert [(a.attempt, a.worker_id, a.outcome, a.reason) for a in history] == [
            (1, "w7", "error", "the GPU is gone"),
            (2, "w8", None, ""),
        ]

    def test_trials_of_other_stages_are_left_alone(self, world):
        world.plan(1)
        with world.db.transaction():
            other = world.open_stage("verify")
            assert world.trials.claim_waiting(other.id, "w", 60) is None

    @pytest.mark.parametrize("dialect", ["postgresql"])  # on SQLite the second claim waits instead
    def test_a_trial_that_another_is_claiming_is_passed_over(self, world, another):
        world.plan(2)
        peer = another()
        with world.db.transaction():
            first = world.trials.claim_waiting(world.stage.id, "w1", 60)
            second = peer.claim("w2")
        assert (first.ordinal, second.ordinal) == (0, 1)

    def test_binding_names_the_optuna_trial(self, world):
        trial = world.admit()
        with world.db.transaction():
            world.trials.bind(trial.id, optuna_id=77, number=5)
            assert world.trials.numbered(world.stage, 5).optuna_id == 77
            with pytest.raises(NotFoundError, match="has no trial number 6"):
                world.trials.numbered(world.stage, 6)


class TestTheFence:
    def test_the_holder_may_write(self, world):
        trial = world.admit()
        with world.db.transaction():
            held = world.trials.hold(trial.lease)
            assert world.trials.reports.add(held, report(1, grad_norm=0.5))
            extended = world.trials.extend(trial.lease, 120, 0.25)
        assert extended.lease_until > trial.lease_until + 50
        assert extended.progress == 0.25
        with world.db.transaction():
            (row,) = world.trials.reports.of(trial.id)
        assert (row.step, row.fraction, row.value, row.attempt) == (1, 1 / 8, 2.5, 1)
        assert row.metrics == {"grad_norm": 0.5}

    def test_a_lease_whose_time_is_over_still_holds_until_someone_settles_it(self, world):
        trial = world.admit(lease=-10)
        with world.db.transaction():
            assert world.trials.hold(trial.lease).id == trial.id
            assert world.trials.extend(trial.lease, 60).lease_until > trial.lease_until
            assert world.trials.expired() == []

    def test_a_stale_holder_cannot_write_about_a_reclaimed_trial(self, world):
        old = world.admit(lease=-1)
        with world.db.transaction():
            world.trials.requeue(old.id, reason="w1 fell silent", event=TrialEvent.EXPIRE)
        new = world.claim("w2")
        for write in (world.trials.hold, lambda lease: world.trials.extend(lease, 60)):
            with pytest.raises(StaleLeaseError, match=rf"trial {old.id} .*claim 2"), world.db.transaction():
                write(old.lease)
        assert world.get(old.id) == new

    def test_a_stale_holder_cannot_write_while_the_trial_waits(self, world):
        old = world.admit()
        with world.db.transaction():
            world.trials.requeue(old.id, reason="drained", event=TrialEvent.RELEASE)
        with pytest.raises(StaleLeaseError, match="waiting"), world.db.transaction():
            world.trials.extend(old.lease, 60)

    def test_a_lease_finds_the_attempt_it_was_given_for_whatever_came_after(self, world):
        old = world.admit()
        with world.db.transaction():
            world.trials.requeue(old.id, reason="drained", event=TrialEvent.RELEASE)
        new = world.claim("w2")
        with world.db.transaction():
            assert world.trials.attempts.of_lease(old.lease).outcome == "release"
            assert world.trials.attempts.of_lease(new.lease).outcome is None
            assert world.trials.attempts.of_lease(Lease(trial_id=old.id, token=9)) is None

    def test_expired_trials_of_some_studies_can_be_left_alone(self, world):
        trial = world.admit(lease=-10)
        with world.db.transaction():
            assert world.trials.expired(but_not={world.study.id}) == []
            assert [row.id for row in world.trials.expired(but_not={world.study.id + 1})] == [trial.id]

    def test_a_settled_trial_has_no_holder(self, world):
        trial = world.admit()
        with world.db.transaction():
            world.trials.settle(trial.id, TrialState.PRUNED, reason="worse than its peers")
        with pytest.raises(StaleLeaseError, match="worse than its peers"), world.db.transaction():
            world.trials.hold(trial.lease)

    def test_the_holder_of_a_deleted_trial_is_told_so(self, world):
        trial = world.admit()
        with world.db.transaction():
            world.studies.delete(world.study.id)
        with pytest.raises(StaleLeaseError, match="deleted"), world.db.transaction():
            world.trials.extend(trial.lease, 60)

    def test_a_deleted_trials_id_never_comes_back(self, world, another):
        trial = world.admit()
        with world.db.transaction():
            world.studies.delete(world.study.id)
        fresh = another()
        assert fresh.admit().id > trial.id

    def test_a_token_from_the_future_holds_nothing(self, world):
        trial = world.admit()
        with pytest.raises(StaleLeaseError), world.db.transaction():
            world.trials.hold(Lease(trial_id=trial.id, token=2))

    def test_a_holder_without_progress_to_tell_keeps_what_was_told(self, world):
        trial = world.admit()
        with world.db.transaction():
            world.trials.extend(trial.lease, 60, 0.5)
            assert world.trials.extend(trial.lease, 60).progress == 0.5
            assert world.trials.extend(trial.lease, 60, math.nan).progress == 0.5


class TestReports:
    def test_the_first_report_of_a_step_stands(self, world):
        trial = world.admit()
        with world.db.transaction():
            assert world.trials.reports.add(trial, report(1, 2.5))
            world.trials.requeue(trial.id, reason="lost", event=TrialEvent.EXPIRE)
        second = world.claim()
        with world.db.transaction():
            assert not world.trials.reports.add(second, report(1, 9.9))
            assert world.trials.reports.add(second, report(2, 2.0))
            rows = world.trials.reports.of(trial.id)
        assert [(row.step, row.value, row.attempt) for row in rows] == [(1, 2.5, 1), (2, 2.0, 2)]

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_becomes_null_and_a_note(self, world, value):
        trial = world.admit()
        with world.db.transaction():
            world.trials.reports.add(trial, report(1, value, grad_norm=value, loss=1.0))
            (row,) = world.trials.reports.of(trial.id)
        assert row.value is None
        assert str(value) in row.note
        assert row.metrics == {"grad_norm": None, "loss": 1.0}

    def test_curves_hold_the_reports_of_all_trials_of_the_study(self, world):
        for trial in (world.admit(), world.admit()):
            with world.db.transaction():
                world.trials.reports.add(trial, report(2))
                world.trials.reports.add(trial, report(1))
        with world.db.transaction():
            curves = world.trials.reports.in_study(world.study.id)
        assert [row.step for row in curves] == [1, 2, 1, 2]
        assert curves[0].trial_id < curves[2].trial_id


class TestEnds:
    @pytest.mark.parametrize("state", list(FINAL))
    def test_settling_writes_the_end_and_gives_up_the_lease(self, world, state):
        trial = world.admit()
        with world.db.transaction():
            world.trials.settle(
                trial.id,
                state,
                reason="because",
                value=1.5,
                adapter="/a",
                facts=RunFacts.of({"tokens": 10, "bad": math.nan}),
            )
        row = world.get(trial.id)
        assert (row.state, row.reason, row.value, row.adapter) == (state, "because", 1.5, "/a")
        assert row.facts.flat() == {"tokens": 10, "bad": None}
        assert (row.worker_id, row.lease_until) == (None, None)
        assert row.ended_at >= row.started_at
        with world.db.transaction():
            (attempt,) = world.trials.attempts.of(trial.id)
        assert (attempt.outcome, attempt.reason) == (state.value, "because")
        assert attempt.device_seconds == row.device_seconds

    def test_time_on_a_shared_device_is_what_its_holder_measured(self, world):
        trial = world.admit()
        with world.db.transaction():
            world.trials.settle(trial.id, TrialState.COMPLETE, reason="done", value=1.0, device_seconds=2.5)
            (attempt,) = world.trials.attempts.of(trial.id)
        assert attempt.device_seconds == world.get(trial.id).device_seconds == 2.5

    def test_a_value_that_is_not_finite_is_dropped_and_the_reason_says_so(self, world):
        trial = world.admit()
        with world.db.transaction():
            world.trials.settle(trial.id, TrialState.PRUNED, reason="diverged", value=math.inf)
        row = world.get(trial.id)
        assert (row.value, row.reason) == (None, "diverged (the value was inf)")

    @pytest.mark.parametrize("first, second", list(product(FINAL, repeat=2)))
    def test_a_trial_ends_once(self, world, first, second):
        trial = world.admit()
        with world.db.transaction():
            world.trials.settle(trial.id, first, reason="first")
        with pytest.raises(ConflictError, match="first"), world.db.transaction():
            world.trials.settle(trial.id, second, reason="second")
        assert world.get(trial.id).reason == "first"

    @pytest.mark.parametrize("state", [state for state in FINAL if state is not TrialState.CANCELLED])
    def test_a_waiting_trial_cannot_be_settled_with_a_result(self, world, state):
        (trial,) = world.plan(1)
        assert next_state(TrialState.WAITING, FINAL[state].event) is None
        with pytest.raises(ConflictError), world.db.transaction():
            world.trials.settle(trial.id, state, reason="?")

    @pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.WAITING])
    def test_settling_needs_a_final_state(self, world, state):
        trial = world.admit()
        with pytest.raises(ConflictError, match="not an end"), world.db.transaction():
            world.trials.settle(trial.id, state, reason="?")

    @pytest.mark.parametrize(
        "event, counted", [(TrialEvent.ERROR, (1, 0)), (TrialEvent.EXPIRE, (0, 1)), (TrialEvent.RELEASE, (0, 0))]
    )
    def test_giving_back_counts_errors_and_losses_apart(self, world, event, counted):
        trial = world.admit()
        with world.db.transaction():
            world.trials.bind(trial.id, 7, 3)
            row = world.trials.requeue(trial.id, reason="why", event=event)
        assert (row.state, row.reason, row.number) == (TrialState.WAITING, "why", 3)
        assert (row.errors, row.losses) == counted
        assert (row.worker_id, row.lease_until, row.ended_at) == (None, None, None)

    def test_a_trial_is_given_back_once(self, world):
        trial = world.admit()
        with world.db.transaction():
            world.trials.requeue(trial.id, reason="first", event=TrialEvent.EXPIRE)
        with pytest.raises(ConflictError, match="waiting"), world.db.transaction():
            world.trials.requeue(trial.id, reason="second", event=TrialEvent.EXPIRE)
        assert world.get(trial.id).losses == 1

    @pytest.mark.parametrize("method", ["get", "retry"])
    def test_a_trial_that_is_not_there_is_named(self, world, method):
        with pytest.raises(NotFoundError, match="12345"), world.db.transaction():
            getattr(world.trials, method)(12345)
        with pytest.raises(NotFoundError, match="12345"), world.db.transaction():
            world.trials.bind(12345, 1, 1)


class TestRequests:
    def test_a_waiting_trial_is_cancelled_at_once(self, world):
        (trial,) = world.plan(1)
        with world.db.transaction():
            row = world.trials.cancel(trial.id, "not needed")
        assert (row.state, row.reason) == (TrialState.CANCELLED, "not needed")
        assert world.claim() is None

    def test_a_running_trial_is_asked_and_its_holder_learns_of_it(self, world):
        trial = world.admit()
        with world.db.transaction():
            world.trials.cancel(trial.id, "too slow")
        with world.db.transaction():
            heard = world.trials.extend(trial.lease, 60)
        assert (heard.state, heard.cancel_reason) == (TrialState.RUNNING, "too slow")

    def test_the_request_survives_the_loss_of_the_holder(self, world):
        trial = world.admit()
        with world.db.transaction():
            world.trials.cancel(trial.id, "too slow")
            world.trials.requeue(trial.id, reason="lost", event=TrialEvent.EXPIRE)
        assert world.claim().cancel_reason == "too slow"

    @pytest.mark.parametrize("state", list(FINAL))
    def test_an_ended_trial_cannot_be_cancelled(self, world, state):
        trial = world.admit()
        with world.db.transaction():
            world.trials.settle(trial.id, state, reason="over")
        with pytest.raises(ConflictError, match="over"), world.db.transaction():
            world.trials.cancel(trial.id, "late")

    @pytest.mark.parametrize("state", list(FINAL))
    def test_only_failed_and_cancelled_trials_are_tried_again(self, world, state):
        trial = world.admit(key="a")
        with world.db.transaction():
            world.trials.bind(trial.id, 7, 3)
            world.trials.reports.add(trial, report(1))
            world.trials.requeue(trial.id, reason="error", event=TrialEvent.ERROR)
        claimed = world.claim()
        with world.db.transaction():
            world.trials.settle(claimed.id, state, reason="over")
        if next_state(state, TrialEvent.RETRY) is None:
            with pytest.raises(ConflictError, match="over"), world.db.transaction():
                world.trials.retry(trial.id)
            return
        with world.db.transaction():
            row = world.trials.retry(trial.id)
            assert world.trials.reports.of(trial.id) == []
            assert len(world.trials.attempts.of(trial.id)) == 2
        assert (row.state, row.number, row.optuna_id) == (TrialState.WAITING, None, None)
        assert (row.errors, row.losses, row.ended_at, row.ordinal) == (0, 0, None, 0)
        again = world.claim()
        assert (again.attempt, again.token) == (3, 3)


class TestTheReapersView:
    def test_only_running_trials_with_an_ended_lease_are_expired(self, world):
        world.admit(lease=60)
        silent, worse = world.admit(lease=-1), world.admit(lease=-100)
        done = world.admit(lease=-1)
        with world.db.transaction():
            world.trials.settle(done.id, TrialState.COMPLETE, reason="done", value=1.0)
            assert [row.id for row in world.trials.expired()] == [worse.id, silent.id]
            assert [row.id for row in world.trials.expired(limit=1)] == [worse.id]

    def test_a_running_trial_without_a_lease_is_expired(self, world):
        with world.db.transaction():
            orphan = world.trials.admit(
                world.stage,
                parameters={},
                dedupe_key=None,
                role="search",
                seed=1,
                worker_id=None,
                lease_seconds=0,
            )
        with world.db.transaction():
            assert [row.id for row in world.trials.expired()] == [orphan.id]

    @pytest.mark.parametrize("dialect", ["postgresql"])  # on SQLite the second reaper waits instead
    def test_two_reapers_never_see_the_same_trial(self, world, another):
        world.admit(lease=-1)
        peer = another()
        with world.db.transaction():
            assert len(world.trials.expired()) == 1
            with peer.db.transaction():
                assert peer.trials.expired() == []


class TestAccounts:
    def test_counts_name_every_state(self, world):
        world.plan(2)
        world.admit()
        with world.db.transaction():
            counts = world.counts()
            assert world.trials.tallies.total(world.stage.id) == 3
        assert set(counts) == set(TrialState)
        assert (counts[TrialState.WAITING], counts[TrialState.RUNNING], counts[TrialState.FAILED]) == (
            2,
            1,
            0,
        )

    def test_device_time_counts_every_attempt_and_its_devices(self, world):
        trial = world.admit(devices=4.0)
        _started_ago(world, trial.id, 100)
        with world.db.transaction():
            assert world.trials.attempts.device_seconds(world.stage.id) == pytest.approx(400, abs=8)
            world.trials.requeue(trial.id, reason="drained", event=TrialEvent.RELEASE)
        second = world.claim()
        _started_ago(world, second.id, 10)
        with world.db.transaction():
            row = world.trials.settle(trial.id, TrialState.COMPLETE, reason="done", value=1.0)
            assert row.device_seconds == pytest.approx(410, abs=8)
            assert world.trials.attempts.device_seconds(world.stage.id) == pytest.approx(row.device_seconds)

    def test_silence_after_a_lease_is_not_counted(self, world):
        trial = world.admit(lease=-70)
        _started_ago(world, trial.id, 100)
        with world.db.transaction():
            assert world.trials.attempts.device_seconds(world.stage.id) == pytest.approx(30, abs=2)
            row = world.trials.requeue(trial.id, reason="lost", event=TrialEvent.EXPIRE)
        assert row.device_seconds == pytest.approx(30, abs=2)

    def test_a_stage_without_trials_took_no_time(self, world):
        with world.db.transaction():
            assert world.trials.attempts.device_seconds(world.stage.id) == 0.0

    def test_trials_are_listed_in_order_by_study_or_stage(self, world):
        rows = world.plan(3)
        with world.db.transaction():
            verify = world.open_stage("verify")
            world.trials.plan(verify, [PlannedTrial(role="carried", parameters={}, seed=1)])
            assert [t.id for t in world.trials.list(world.study.id, world.stage.id)] == [t.id for t in rows]
            assert len(world.trials.list(world.study.id)) == 4


def _started_ago(world, trial_id, seconds):
    with world.db.transaction():
        world.db.connection.execute(
            schema.attempt.update()
            .where(schema.attempt.c.trial_id == trial_id, schema.attempt.c.ended_at.is_(None))
            .values(started_at=Now() - seconds)
        )
