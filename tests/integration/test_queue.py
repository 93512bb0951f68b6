"""The queue as workers meet it: exact budgets, fences, attempts, and what people ask from outside."""

from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest

from hpo_service.domain.decide.placement import Resources
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.scores import Scores
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import ConflictError, HpoServiceError, StaleLeaseError
from hpo_service.service.trials.clock_watch import ClockWatch
from hpo_service.service.trials.queue import Copied
from hpo_service.storage.database import Database
from hpo_service.worker.options import WorkerOptions
from tests.counting import statements


def optuna_trials(bench, name="s/search"):
    service = bench.service
    storage = optuna.storages.RDBStorage(service.db.url)
    try:
        return optuna.load_study(study_name=name, storage=storage).trials
    finally:
        storage.engine.dispose()


def test_exactly_the_trials_asked_for_are_handed_out(bench):
    bench.create()
    assignments = [bench.must_claim() for _ in range(4)]
    assert bench.claim() is None
    assert [a.number for a in assignments] == [0, 1, 2, 3]
    for assignment in assignments:
        bench.complete(assignment)
    assert bench.claim() is None
    assert [t.state for t in optuna_trials(bench)] == [optuna.trial.TrialState.COMPLETE] * 4


def test_a_claim_carries_the_complete_configuration(bench, trained):
    bench.create(**trained)
    config = bench.must_claim().config
    assert config.model_name == "org/small"
    assert config.training.learning_rate == config.parameters["learning_rate"]
    assert config.training.effective_batch == 16
    assert config.seed == 42


def test_a_reclaimed_trial_keeps_its_number_and_its_old_holder_is_fenced_off(bench):
    bench.create()
    first = bench.must_claim("w1")
    bench.report(first, 1, 3.0)
    bench.run_out(first)
    assert [row.id for row in bench.service.reaper.reap()] == [first.lease.trial_id]
    second = bench.must_claim("w2")
    assert (second.number, second.attempt) == (first.number, 2)
    assert second.lease.token > first.lease.token
    for write in (lambda: bench.report(first, 2, 9.0), lambda: bench.complete(first, 9.0)):
        with pytest.raises(StaleLeaseError):
            write()
    renewal = bench.service.queue.renew("w1", {first.lease: 0.5})
    assert renewal.decisions[first.lease].action == "abandon"
    bench.report(second, 2, 2.0)
    assert bench.complete(second, 2.0) is TrialState.COMPLETE
    [trial] = [t for t in optuna_trials(bench) if t.number == first.number]
    assert trial.intermediate_values == {1: 3.0, 2: 2.0}
    assert trial.value == 2.0
    assert bench.trial(second).losses == 1


def test_a_lease_that_ran_out_but_was_not_taken_still_holds(bench):
    bench.create()
    assignment = bench.must_claim()
    bench.run_out(assignment)
    assert bench.report(assignment, 1, 1.0).action == "continue"
    assert bench.complete(assignment) is TrialState.COMPLETE


def test_the_first_report_of_a_step_stands(bench):
    bench.create()
    assignment = bench.must_claim()
    bench.report(assignment, 1, 3.0)
    bench.report(assignment, 1, 7.0)
    assert optuna_trials(bench)[0].intermediate_values == {1: 3.0}


def test_errors_are_tried_again_until_the_attempts_are_used_up(bench):
    bench.create(execution={"max_attempts": 2})
    first = bench.must_claim()
    assert bench.end(first, OutcomeKind.ERROR) is TrialState.WAITING
    second = bench.must_claim()
    assert (second.number, second.attempt) == (first.number, 2)
    assert bench.end(second, OutcomeKind.ERROR) is TrialState.FAILED
    row = bench.trial(second)
    assert "2 attempts failed" in row.reason
    assert row.errors >= 1
    assert optuna_trials(bench)[0].state is optuna.trial.TrialState.FAIL


def test_an_error_that_can_only_repeat_fails_the_trial_at_once(bench):
    bench.create()
    assert bench.end(bench.must_claim(), OutcomeKind.ERROR, retryable=False) is TrialState.FAILED


def test_losses_and_releases_are_counted_apart_from_errors(bench):
    bench.create(execution={"max_attempts": 1, "max_losses": 3})
    for attempt in (1, 2):
        assignment = bench.must_claim()
        assert assignment.attempt == attempt
        bench.run_out(assignment)
        bench.service.reaper.reap()
    released = bench.must_claim()
    assert bench.end(released, OutcomeKind.RELEASED) is TrialState.WAITING
    row = bench.trial(released)
    assert (row.errors, row.losses) == (0, 2)
    last = bench.must_claim()
    bench.run_out(last)
    bench.service.reaper.reap()
    row = bench.trial(last)
    assert row.state is TrialState.FAILED
    assert "loss 3 of at most 3" in row.reason


def test_a_pruned_trial_teaches_the_sampler_its_last_value(bench):
    bench.create()
    assignment = bench.must_claim()
    bench.report(assignment, 1, 5.0)
    assert bench.end(assignment, OutcomeKind.PRUNED, value=5.0) is TrialState.PRUNED
    [trial] = optuna_trials(bench)
    assert (trial.state, trial.value) == (optuna.trial.TrialState.PRUNED, 5.0)


def test_the_value_of_a_pruned_trial_is_the_last_one_recorded_whatever_its_holder_says(bench):
    bench.create()
    for said in (None, 9.0):
        assignment = bench.must_claim()
        bench.report(assignment, 1, 5.0)
        bench.report(assignment, 2, 4.0)
        bench.end(assignment, OutcomeKind.PRUNED, value=said)
        assert bench.trial(assignment).value == 4.0


def test_a_trial_out_of_memory_is_pruned_with_a_constraint(bench):
    bench.create()
    assert bench.end(bench.must_claim(), OutcomeKind.INFEASIBLE) is TrialState.INFEASIBLE
    [trial] = optuna_trials(bench)
    assert trial.state is optuna.trial.TrialState.PRUNED


def test_a_final_value_that_is_not_finite_prunes_the_trial(bench):
    bench.create()
    assignment = bench.must_claim()
    assert bench.complete(assignment, math.nan) is TrialState.PRUNED
    assert "not a finite number" in bench.trial(assignment).reason


def test_halving_prunes_with_a_reason(bench):
    bench.create(search={"budget": {"trials": 8}, "pruner": "halving"}, training={"evaluations_per_epoch": 4})
    decisions = [bench.report(bench.must_claim(), 1, float(i), 0.25) for i in range(6)]
    assert decisions[0].action == "continue"
    assert decisions[-1].action == "prune"
    assert "25%" in decisions[-1].reason


def test_the_place_of_a_trial_is_a_share_of_the_epoch_where_there_is_one_and_else_of_the_run(bench):
    training = {"evaluations_per_epoch": 4}
    trainer = {"objective": None, "space": {"preset": "lora"}, "model": {"base": "a/b"}, "data": {"source": "c/d"}}
    for name, sections, span in (
        ("one", {**trainer, "training": training}, "epoch"),
        ("three", {**trainer, "training": {**training, "epochs": 3}}, "run"),
        ("own", {"training": training}, "run"),
    ):
        bench.create(name=name, **sections)
        assignment = bench.service.queue.claim(bench.worker, name)
        assert bench.report(assignment, 1, 1.0, 0.25).reason.startswith(
            f"{'value' if name == 'own' else 'validation loss'} 1 at 25% of the {span}: "
        )


def test_scores_are_stored_beside_the_value(bench):
    bench.create()
    assignment = bench.must_claim()
    scores = Scores(nll=[1.5, 2.5], tokens=[1, 3])
    bench.complete(assignment, 1.0, validation=scores, test=scores)
    with bench.service.db.transaction():
        assert bench.service.score_rows.load(assignment.lease.trial_id, "test") == scores


def test_a_space_that_is_used_up_reuses_measured_values(bench):
    space = {"parameters": {"x": {"choices": [1, 2]}}}
    bench.create(space=space, search={"budget": {"trials": 5}, "pruner": "none"})
    first, second = bench.must_claim(), bench.must_claim()
    assert first.config.parameters != second.config.parameters
    assert bench.claim() is None, "a twin that is still running is waited for"
    bench.complete(first, 1.0)
    bench.complete(second, 2.0)
    assert bench.claim() is None
    trials = bench.trials()
    assert len(trials) == 5
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert all("reused" in t.reason for t in trials[2:])
    values = {t.parameters["x"]: t.value for t in trials[:2]}
    assert all(t.value == values[t.parameters["x"]] for t in trials)
    assert [t.number for t in optuna_trials(bench)] == [0, 1, 2, 3, 4]


def test_a_claim_repeats_at_most_one_value_and_says_so(bench):
    space = {"parameters": {"x": {"choices": [1, 2]}}}
    bench.create(space=space, search={"budget": {"trials": 6}, "pruner": "none"})
    bench.complete(bench.must_claim(), 1.0)
    bench.complete(bench.must_claim(), 2.0)
    for count in range(3, 7):
        assert bench.service.queue.claim("w1") == Copied()
        assert len(bench.trials()) == count
    assert bench.service.queue.claim("w1") is None


def test_a_value_is_repeated_in_a_few_statements_however_much_its_twin_reported(bench):
    space = {"parameters": {"x": {"choices": [1]}}}
    bench.create(space=space, search={"budget": {"trials": 3}, "pruner": "none"})
    twin = bench.must_claim()
    for step in range(1, 301):
        bench.report(twin, step, 1.0 / step)
    bench.complete(twin, 1.0)
    with statements(bench.service.db) as sent:
        assert bench.service.queue.claim("w1") == Copied()
    assert len(sent) < 60
    first, copy = optuna_trials(bench)
    assert copy.intermediate_values == first.intermediate_values


@pytest.mark.parametrize("pruner", ["halving", "percentile"])
def test_a_report_sends_no_more_the_more_a_trial_has_reported(bench, pruner):
    bench.create(search={"budget": {"trials": 9}, "pruner": pruner}, training={"evaluations_per_epoch": 400})
    for _ in range(5):
        ended = bench.must_claim()
        bench.report(ended, 1, 1.0)
        bench.complete(ended, 1.0)
    assignment, costs = bench.must_claim(), []
    for step in range(1, 91):
        with statements(bench.service.db) as sent:
            bench.report(assignment, step, 1.0 / step)
        costs.append(len(sent))
    assert costs[9] == costs[88]


def test_keys_that_are_taken_are_asked_for_in_two_statements_a_proposal(bench):
    choices = list(range(12))
    bench.create(
        space={"parameters": {"x": {"choices": choices}}}, search={"budget": {"trials": 50}, "sampler": "random"}
    )
    for number in choices[:-1]:
        bench.complete(bench.must_claim(), float(number))
    with statements(bench.service.db) as sent:
        bench.must_claim()
    asked = [statement for statement in sent if "dedupe_key" in statement.partition("WHERE")[2]]
    assert len([statement for statement in asked if statement.startswith("SELECT")]) <= 3


def test_a_grid_ends_when_every_point_was_tried(bench):
    space = {"parameters": {"x": {"choices": [1, 2, 3]}}}
    bench.create(space=space, search={"sampler": "grid", "budget": {"trials": 50}, "pruner": "none"})
    assert bench.drain_queue() == 3
    assert bench.state() is StudyState.FINISHED


def test_a_search_that_has_little_left_to_gain_ends_before_its_budget_with_the_reason(bench):
    space = {"parameters": {"x": {"low": 0.0, "high": 1.0}}}
    search = {"sampler": "random", "budget": {"trials": 50}, "pruner": "none", "startup_trials": 3}
    bench.create(space=space, search={**search, "stop_when_gain_below": 5.0})
    ran = bench.drain_queue()
    assert 4 <= ran < 50
    stage = bench.service.reader.snapshot("s").stages[0]
    assert stage.reason.startswith(
        f"after {ran} trials the {50 - ran} that are left are expected to improve on the best by"
    )
    assert stage.reason.endswith("and all have ended")
    assert bench.service.reader.snapshot("s").stages[0].budget == ran


def test_a_device_hour_budget_stops_admitting_in_time(bench):
    bench.create(search={"budget": {"trials": 50, "gpu_hours": 1e-9}, "pruner": "none"})
    assignment = bench.must_claim()
    bench.complete(assignment)
    assert bench.claim() is None
    assert bench.service.stages.advance_all() is True
    assert "device hours" in bench.service.reader.snapshot("s").stages[0].reason


def test_a_paused_study_gives_its_trials_back_and_hands_out_none(bench):
    bench.create()
    assignment = bench.must_claim()
    bench.service.studies.steer("s", StudyState.PAUSED, "maintenance")
    decision = bench.report(assignment, 1, 1.0)
    assert (decision.action, "maintenance" in decision.reason) == ("release", True)
    bench.end(assignment, OutcomeKind.RELEASED)
    assert bench.claim() is None
    bench.service.studies.steer("s", StudyState.ACTIVE, "done")
    assert bench.must_claim().attempt == 2


def test_a_draining_study_lets_running_trials_end(bench):
    bench.create()
    assignment = bench.must_claim()
    bench.service.studies.steer("s", StudyState.DRAINING, "enough")
    assert bench.claim() is None
    assert bench.report(assignment, 1, 1.0).action == "continue"
    assert bench.complete(assignment) is TrialState.COMPLETE


def test_cancelling_reaches_running_trials_at_their_next_renewal(bench):
    bench.create()
    assignment = bench.must_claim()
    bench.service.studies.steer("s", StudyState.CANCELLED, "wrong data")
    decision = bench.service.queue.renew("w1", {assignment.lease: 0.1}).decisions[assignment.lease]
    assert (decision.action, "wrong data" in decision.reason) == ("cancel", True)
    assert bench.end(assignment, OutcomeKind.CANCELLED) is TrialState.CANCELLED


def test_one_trial_can_be_stopped_and_a_failed_one_tried_again(bench):
    bench.create()
    assignment = bench.must_claim()
    bench.service.studies.stop_trial("s", "search", assignment.number, "looks bad")
    assert bench.report(assignment, 1, 1.0).reason == "looks bad"
    bench.end(assignment, OutcomeKind.CANCELLED)
    bench.service.studies.retry_trial("s", "search", assignment.number)
    again = bench.must_claim()
    assert again.lease.trial_id == assignment.lease.trial_id
    assert again.config.parameters == assignment.config.parameters
    assert bench.complete(again) is TrialState.COMPLETE
    assert len(bench.trials()) == 1


def test_a_drained_worker_gives_its_trials_back(bench):
    bench.create()
    assignment = bench.must_claim()
    with bench.service.db.transaction():
        bench.service.worker_rows.drain("w1", "node goes down")
    renewal = bench.service.queue.renew("w1", {assignment.lease: 0.2})
    assert renewal.draining
    assert renewal.decisions[assignment.lease].action == "release"


def test_a_clock_that_was_set_back_does_not_keep_a_dead_holders_trial(bench):
    bench.create(execution={"lease_seconds": 30.0})
    assignment = bench.must_claim()
    with bench.service.db.transaction():
        bench.service.trial_rows.extend(assignment.lease, 7200.0)
    assert bench.service.reaper.reap() == []
    with bench.service.db.transaction():
        left = bench.trial(assignment).lease_until - bench.service.db.clock()
    assert 25.0 < left <= 30.0


def test_a_clock_that_jumped_ahead_costs_an_attempt_but_no_result(bench):
    bench.create()
    early = bench.must_claim("w1")
    bench.report(early, 1, 2.0)
    bench.run_out(early)
    bench.service.reaper.reap()
    again = bench.must_claim("w2")
    with pytest.raises(StaleLeaseError):
        bench.complete(early, 2.0)
    assert bench.complete(again, 2.0) is TrialState.COMPLETE
    assert len(bench.trials()) == 1


def test_a_worker_without_failures_at_work_keeps_a_study_from_giving_up(bench):
    bench.create(search={"budget": {"trials": 8}, "pruner": "none"})
    healthy = bench.must_claim("w1")
    for _ in range(4):
        bench.end(bench.must_claim("w2"), OutcomeKind.ERROR, retryable=False)
    assert bench.service.stages.advance_all() is False
    assert bench.complete(healthy) is TrialState.COMPLETE
    assert bench.state() is StudyState.ACTIVE


def test_resuming_a_cancelled_study_takes_up_what_its_cancelling_ended(bench):
    bench.create()
    stopped, running, waiting = (bench.must_claim() for _ in range(3))
    bench.service.studies.stop_trial("s", "search", stopped.number, "looks bad")
    bench.end(stopped, OutcomeKind.CANCELLED)
    bench.end(waiting, OutcomeKind.RELEASED)
    bench.service.studies.steer("s", StudyState.CANCELLED, "wrong data")
    bench.service.queue.finish(
        running.lease, Outcome(kind=OutcomeKind.CANCELLED, reason="the study was cancelled: wrong data")
    )
    bench.service.studies.steer("s", StudyState.ACTIVE, "right after all")
    states = {t.id: t.state for t in bench.trials()}
    assert states[stopped.lease.trial_id] is TrialState.CANCELLED
    assert states[running.lease.trial_id] is states[waiting.lease.trial_id] is TrialState.WAITING


@pytest.mark.parametrize("kind", [OutcomeKind.ERROR, OutcomeKind.RELEASED, None])
def test_a_trial_that_was_told_to_end_is_not_queued_again_when_its_holder_dies(bench, kind):
    bench.create()
    assignment = bench.must_claim()
    bench.service.studies.steer("s", StudyState.CANCELLED, "wrong data")
    if kind is None:
        bench.run_out(assignment)
        bench.service.reaper.reap()
    else:
        bench.end(assignment, kind)
    row = bench.trial(assignment)
    assert (row.state, "wrong data" in row.reason) == (TrialState.CANCELLED, True)
    assert optuna_trials(bench)[0].state is optuna.trial.TrialState.FAIL


def test_trials_that_share_a_device_share_its_time(bench):
    bench.create()
    assignment = bench.service.queue.claim("w1", together=4)
    with bench.service.db.transaction():
        [attempt] = bench.service.trial_rows.attempts.of(assignment.lease.trial_id)
    assert attempt.devices == 0.25


def test_a_trial_on_several_devices_uses_the_time_of_all(bench):
    bench.create(execution={"gpus_per_trial": 4})
    assignment = bench.must_claim()
    with bench.service.db.transaction():
        [attempt] = bench.service.trial_rows.attempts.of(assignment.lease.trial_id)
    assert (attempt.devices, assignment.gpus) == (4.0, 4)


def test_a_worker_is_given_no_trial_that_needs_more_gpus_than_it_has(bench):
    bench.create(execution={"gpus_per_trial": 2})
    assert bench.with_resources(Resources(gpus=1)).claim("w1") is None
    assert bench.with_resources(Resources(gpus=2)).claim("w1").gpus == 2
    assert bench.service.queue.claim("w1").gpus == 2


@pytest.mark.parametrize(
    "given, gpus, shown", [(None, None, "cpu"), (None, 2, "0,1"), ("3,5", 2, "3,5"), ("", None, "cpu")]
)
def test_a_worker_is_listed_with_its_devices(bench, tmp_path, monkeypatch, given, gpus, shown):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    bench.service.supervisor(WorkerOptions(id="w9", output=tmp_path, has=Resources(gpus)))
    with bench.service.db.transaction():
        [row] = [row for row in bench.service.worker_rows.list() if row.id == "w9"]
    assert row.devices == shown


def test_a_worker_started_for_a_study_that_needs_more_gpus_says_so(bench):
    bench.create(execution={"gpus_per_trial": 2})
    for enough in (None, 2, 3):
        bench.service.checks.require("s", Resources(enough))
    with pytest.raises(HpoServiceError, match="gpus_per_trial is 2, but only 1 GPU can be used here"):
        bench.service.checks.require("s", Resources(1))


def test_text_that_no_database_takes_is_written_out(bench):
    bench.create()
    assignment = bench.must_claim()
    outcome = Outcome(kind=OutcomeKind.ERROR, reason="no file \udcff.bin \0", retryable=False)
    assert bench.service.queue.finish(assignment.lease, outcome) is TrialState.FAILED
    assert bench.trial(assignment).reason == "no file \\udcff.bin \\0"


def test_an_end_whose_answer_was_lost_can_be_told_again(bench):
    bench.create(search={"budget": {"trials": 8}, "pruner": "none"}, execution={"max_attempts": 2})
    ends = [
        (OutcomeKind.COMPLETE, 1.0, TrialState.COMPLETE),
        (OutcomeKind.COMPLETE, float("nan"), TrialState.PRUNED),
        (OutcomeKind.PRUNED, 1.0, TrialState.PRUNED),
        (OutcomeKind.INFEASIBLE, None, TrialState.INFEASIBLE),
        (OutcomeKind.CANCELLED, None, TrialState.CANCELLED),
        (OutcomeKind.ERROR, None, TrialState.WAITING),
        (OutcomeKind.ERROR, None, TrialState.FAILED),
        (OutcomeKind.RELEASED, None, TrialState.WAITING),
    ]
    for kind, value, state in ends:
        assignment = bench.must_claim()
        outcome = Outcome(kind=kind, reason="ended", value=value)
        assert bench.service.queue.finish(assignment.lease, outcome) is state
        before = bench.trial(assignment)
        assert bench.service.queue.finish(assignment.lease, outcome) is state
        assert bench.trial(assignment) == before


def test_an_attempt_given_back_is_answered_for_after_the_next_has_begun(bench):
    bench.create()
    first = bench.must_claim("w1")
    assert bench.end(first, OutcomeKind.RELEASED) is TrialState.WAITING
    second = bench.must_claim("w2")
    assert bench.end(first, OutcomeKind.RELEASED) is TrialState.WAITING
    with pytest.raises(StaleLeaseError):
        bench.complete(first)
    assert bench.complete(second) is TrialState.COMPLETE


def test_another_end_than_the_one_that_was_told_is_refused(bench):
    bench.create()
    assignment = bench.must_claim()
    bench.end(assignment, OutcomeKind.PRUNED)
    with pytest.raises(StaleLeaseError, match="ended as pruned"):
        bench.complete(assignment)


@pytest.mark.parametrize("end", [StudyState.FAILED, StudyState.CANCELLED])
def test_a_trial_of_a_study_that_has_ended_is_not_retried_before_the_study_is_resumed(bench, end):
    bench.create()
    assignment = bench.must_claim()
    bench.end(assignment, OutcomeKind.ERROR, retryable=False)
    with bench.service.db.transaction():
        bench.service.study_rows.set_state(bench.service.study_rows.get("s").id, end, "it had to be")
    with pytest.raises(ConflictError, match=f"study s is {end}.*`hpo-service study resume s`"):
        bench.service.studies.retry_trial("s", "search", assignment.number)
    assert bench.trial(assignment).state is TrialState.FAILED
    bench.service.studies.steer("s", StudyState.ACTIVE, "mended")
    if end is StudyState.CANCELLED:
        bench.service.studies.retry_trial("s", "search", assignment.number)
    assert bench.must_claim().lease.trial_id == assignment.lease.trial_id


def test_a_trial_of_a_paused_study_may_be_retried_and_waits(bench):
    bench.create()
    assignment = bench.must_claim()
    bench.end(assignment, OutcomeKind.ERROR, retryable=False)
    bench.service.studies.steer("s", StudyState.PAUSED, "later")
    assert bench.service.studies.retry_trial("s", "search", assignment.number).state is TrialState.WAITING


@pytest.mark.parametrize(
    "facts, measured",
    [
        ({"engine": "packed", "device_seconds": 1234.5}, True),
        ({"engine": "packed", "device_seconds": float("nan")}, False),
        ({"engine": "packed"}, False),
        # a trial that had its device to itself had it from its claim on, the start of the process included
        ({"device_seconds": 1234.5}, False),
    ],
)
def test_a_trial_that_shared_a_device_is_charged_what_it_had_of_it(bench, facts, measured):
    bench.create()
    assignment = bench.must_claim()
    bench.complete(assignment, facts=facts)
    assert (bench.trial(assignment).device_seconds == 1234.5) is measured


def test_a_claim_tells_which_trial_it_is_and_how_it_fared(bench):
    bench.create(execution={"max_attempts": 3, "max_losses": 9})
    first = bench.must_claim()
    assert (first.failures, first.last) == (0, False)
    bench.end(first, OutcomeKind.ERROR)
    second = bench.must_claim()
    assert (second.identity, second.failures, second.last) == (first.identity, 1, False)
    bench.end(second, OutcomeKind.RELEASED)
    third = bench.must_claim()
    assert (third.failures, third.last) == (1, False)
    bench.end(third, OutcomeKind.ERROR)
    fourth = bench.must_claim()
    assert (fourth.identity, fourth.failures, fourth.last) == (first.identity, 2, True)
    bench.complete(fourth)
    assert bench.must_claim().identity != first.identity


def test_the_last_loss_of_a_trial_is_its_last_attempt_too(bench):
    bench.create(execution={"max_losses": 2})
    lost = bench.must_claim()
    bench.run_out(lost)
    bench.service.reaper.reap()
    again = bench.must_claim()
    assert (again.number, again.failures, again.last) == (lost.number, 1, True)


def test_a_study_that_is_made_again_has_other_trials(bench):
    bench.create()
    before = bench.must_claim()
    bench.complete(before)
    bench.service.studies.delete("s")
    bench.create()
    now = bench.must_claim()
    assert (now.name, now.config) == (before.name, before.config)
    assert now.identity != before.identity
    assert bench.service.ended.among({before.identity, now.identity}) == frozenset()


def test_which_trials_have_ended_is_told_by_their_identity(bench):
    bench.create()
    complete, waiting, running = (bench.must_claim() for _ in range(3))
    bench.complete(complete)
    bench.end(waiting, OutcomeKind.RELEASED)
    known = {each.identity for each in (complete, waiting, running)}
    strange = {"", "study 1, trial 1 of 5.5", "study 1, trial x", "study 1, trial 99999999999999999999 of 1.0"}
    assert bench.service.ended.among(known | strange) == {complete.identity}
    bench.service.studies.steer("s", StudyState.CANCELLED, "enough")
    assert bench.service.ended.among(known) == {complete.identity, waiting.identity}


def test_a_reaper_leaves_what_its_caller_holds(bench):
    bench.create()
    ours, theirs = bench.must_claim("w1"), bench.must_claim("w2")
    bench.run_out(ours)
    bench.run_out(theirs)
    assert [row.id for row in bench.service.reaper.reap({ours.lease.trial_id})] == [theirs.lease.trial_id]
    assert bench.trial(ours).state is TrialState.RUNNING
    assert [row.id for row in bench.service.reaper.reap()] == [ours.lease.trial_id]


def test_after_a_jump_of_the_clock_live_workers_renew_before_anybody_takes_their_trials(bench, monkeypatch):
    bench.create(execution={"lease_seconds": 30.0})
    alive, dead = bench.must_claim("w1"), bench.must_claim("w2")
    here = [100.0]
    reaper = replace(bench.service.reaper, clock=ClockWatch(lambda: here[0]))
    clock = Database.clock
    assert reaper.reap() == []
    monkeypatch.setattr(Database, "clock", lambda self: clock(self) + 3600.0)
    for assignment in (alive, dead):
        bench.run_out(assignment)
    assert reaper.reap() == []
    bench.service.queue.renew("w1", {alive.lease: 0.5})
    here[0] += 15.0
    monkeypatch.setattr(Database, "clock", lambda self: clock(self) + 3615.0)
    assert [row.id for row in reaper.reap()] == [dead.lease.trial_id]
