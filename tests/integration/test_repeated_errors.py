"""A study whose trials end one after the other for one cause pauses itself, and goes on when it is resumed."""

from __future__ import annotations

import pytest

from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.states import StudyState, TrialState

GONE = "rows.jsonl: no such file"


@pytest.fixture
def study(bench):
    """A study of thirty trials, one of which has succeeded."""
    bench.create(search={"budget": {"trials": 30}, "pruner": "none"})
    bench.complete(bench.must_claim())
    return bench


def fail(bench, assignment, reason=GONE, **more):
    return bench.service.queue.finish(assignment.lease, Outcome(kind=OutcomeKind.ERROR, reason=reason, **more))


def advance(bench):
    bench.service.stages.advance_all()
    return bench.service.reader.snapshot("s")


def test_data_that_are_gone_cost_three_trials_and_resuming_gives_them_back(study):
    for number in range(3):
        assert advance(study).state is StudyState.ACTIVE
        fail(study, study.must_claim(["w1", "w2"][number % 2]), retryable=False)
    paused = advance(study)
    assert paused.state is StudyState.PAUSED
    assert GONE in paused.reason
    assert "resumed" in paused.reason
    assert study.claim() is None
    study.service.studies.steer("s", StudyState.ACTIVE, "the data are back")
    assert advance(study).state is StudyState.ACTIVE
    assert study.drain_queue() == 29
    assert {trial.state for trial in study.trials()} == {TrialState.COMPLETE}


def test_a_cause_that_was_not_mended_pauses_the_study_again_after_as_many_trials(study):
    for _ in range(3):
        fail(study, study.must_claim(), retryable=False)
    advance(study)
    study.service.studies.steer("s", StudyState.ACTIVE, "hopefully mended")
    for _ in range(2):
        fail(study, study.must_claim(), retryable=False)
        assert advance(study).state is StudyState.ACTIVE
    fail(study, study.must_claim(), retryable=False)
    assert advance(study).state is StudyState.PAUSED
    assert len(study.trials()) == 4


def test_first_errors_that_may_pass_do_not_pause_a_study_but_second_ones_do(study):
    first = [study.claim_now() for _ in range(3)]
    for assignment in first:
        fail(study, assignment, "the hub does not answer")
    assert advance(study).state is StudyState.ACTIVE
    again = [study.must_claim("w2"), study.claim_now("w2"), study.claim_now("w2")]
    for assignment in again:
        fail(study, assignment, "the hub does not answer")
    assert advance(study).state is StudyState.PAUSED
    study.service.studies.steer("s", StudyState.ACTIVE, "the hub is back")
    assert advance(study).state is StudyState.ACTIVE
    assert [study.trial(assignment).errors for assignment in first] == [0] * 3


def test_a_success_in_between_keeps_the_study_going(study):
    for _ in range(6):
        fail(study, study.must_claim(), retryable=False)
        if len(study.trials()) % 2:
            study.complete(study.must_claim())
        assert advance(study).state is StudyState.ACTIVE


def test_different_causes_do_not_pause_it(study):
    for reason in ("row without text", "loss is not finite", "no such column"):
        fail(study, study.must_claim(), reason, retryable=False)
    assert advance(study).state is StudyState.ACTIVE


def test_a_worker_that_has_not_failed_keeps_the_study_going_while_it_works(study):
    healthy = study.must_claim("w2")
    for _ in range(5):
        fail(study, study.must_claim("w1"), retryable=False)
    assert advance(study).state is StudyState.ACTIVE
    fail(study, healthy, retryable=False)
    assert advance(study).state is StudyState.PAUSED


def test_trials_that_failed_for_other_causes_are_not_tried_again_by_resuming(study):
    fail(study, study.must_claim(), "its own mistake", retryable=False)
    study.complete(study.must_claim())
    for _ in range(3):
        fail(study, study.must_claim(), retryable=False)
    advance(study)
    study.service.studies.steer("s", StudyState.ACTIVE, "mended")
    assert [trial.state for trial in study.trials()].count(TrialState.FAILED) == 1
