"""What a study leaves as events: every move with its reason, who did it, and no more than a few a trial."""

from __future__ import annotations

from collections import Counter

import pytest

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import NotFoundError


def told(bench, *place, **about):
    return [(e.kind, e.reason) for e in bench.service.events.list(*place, **about)]


def test_every_move_of_a_trial_is_told_with_its_reason(bench):
    bench.create()
    first = bench.must_claim()
    for step in range(1, 8):
        bench.report(first, step, 1.0 / step)
    bench.run_out(first)
    bench.service.reaper.reap()
    again = bench.must_claim("w2")
    bench.end(again, OutcomeKind.ERROR, retryable=True)
    bench.end(bench.must_claim(), OutcomeKind.RELEASED)
    bench.complete(bench.must_claim(), 0.5)
    assert told(bench, "s", ("search", 0)) == [
        ("trial_claimed", "taken by w1"),
        ("lease_lost", "worker w1 fell silent in attempt 1 (loss 1 of at most 20)"),
        ("trial_claimed", "taken by w2"),
        ("trial_error", "attempt 2 failed (1 of 3): ended as error"),
        ("trial_claimed", "taken by w1"),
        ("trial_given_back", "ended as released"),
        ("trial_claimed", "taken by w1"),
        ("trial_complete", "measured"),
    ]
    last = bench.service.events.list("s", ("search", 0))[-1]
    assert (last.stage, last.number, last.worker, last.details) == ("search", 0, "w1", {"attempt": 4, "value": 0.5})


@pytest.mark.parametrize(
    "kind, event",
    [
        (OutcomeKind.PRUNED, "trial_pruned"),
        (OutcomeKind.INFEASIBLE, "trial_infeasible"),
        (OutcomeKind.CANCELLED, "trial_cancelled"),
    ],
)
def test_ends_are_told_as_what_they_are(bench, kind, event):
    bench.create()
    bench.end(bench.must_claim(), kind)
    assert told(bench, "s", ("search", 0))[-1] == (event, f"ended as {kind}")


def test_what_people_ask_for_is_told_with_who_asked(bench):
    bench.create()
    trial = bench.must_claim()
    studies = bench.service.studies
    studies.stop_trial("s", "search", trial.number, "diverges", by="ann@desk")
    bench.end(trial, OutcomeKind.CANCELLED)
    studies.retry_trial("s", "search", trial.number, by="bob@desk")
    studies.steer("s", StudyState.PAUSED, "night", by="ann@desk")
    studies.steer("s", StudyState.PAUSED, "night again", by="ann@desk")
    studies.steer("s", StudyState.ACTIVE, "morning", by="bob@desk")
    people = [(e.kind, e.reason, e.details["by"]) for e in bench.service.events.list("s") if "by" in e.details]
    assert people == [
        ("trial_stop_asked", "diverges", "ann@desk"),
        ("trial_retried", "was cancelled: ended as cancelled", "bob@desk"),
        ("study_paused", "night", "ann@desk"),
        ("study_resumed", "morning", "bob@desk"),
    ]


def test_a_study_that_goes_through_its_stages_says_what_was_chosen_and_carried_on(bench, trained):
    bench.create(**trained)
    bench.service.queue.describe("s", trained.facts)
    bench.drain_queue()
    events = bench.service.events.list("s", last=None)
    moves = [(e.kind, e.stage) for e in events if e.kind.startswith("stage_")]
    stages = ("search", "verify", "confirm")
    assert moves == [(kind, stage) for stage in stages for kind in ("stage_opened", "stage_closed")]
    snapshot = bench.service.reader.snapshot("s")
    for stage in stages[1:]:
        view = snapshot.stage(stage)
        opened = next(e for e in events if (e.kind, e.stage) == ("stage_opened", stage))
        assert opened.reason == view.plan["why"]
        assert opened.details == {"trials": len(view.trials), "chosen": view.plan["chosen"]}
        promoted = {e.details["label"]: e.reason for e in events if (e.kind, e.stage) == ("trial_promoted", stage)}
        assert promoted == view.plan["trials"]
    assert (events[-1].kind, events[-1].reason) == ("study_finished", snapshot.reason)


def test_there_are_a_few_events_a_trial_however_often_it_reports(bench):
    bench.create(search={"budget": {"trials": 3}, "pruner": "none"})
    while (trial := bench.claim()) is not None:
        for step in range(1, 50):
            bench.report(trial, step, 1.0)
        bench.complete(trial)
    per_trial = Counter(e.trial_id for e in bench.service.events.list("s", last=None) if e.trial_id is not None)
    assert set(per_trial.values()) == {2}


def test_a_workers_events_are_of_every_study_and_its_own(bench):
    bench.create()
    bench.complete(bench.must_claim("w2"))
    kinds = [e.kind for e in bench.service.events.list(worker="w2")]
    assert kinds == ["worker_joined", "trial_claimed", "trial_complete"]


def test_a_study_or_stage_that_is_not_there_is_said(bench):
    bench.create()
    with pytest.raises(NotFoundError, match="there is no study 'x'"):
        bench.service.events.list("x")
    with pytest.raises(NotFoundError, match="stage s/confirm has not been opened"):
        bench.service.events.list("s", ("confirm", 0))


def test_whoever_follows_is_told_each_thing_once(bench):
    bench.create()
    follower = bench.service.events.follow("s")
    assert [e.kind for e in follower.next()] == ["study_created", "stage_opened"]
    trial = bench.must_claim()
    assert [e.kind for e in follower.next()] == ["trial_claimed"]
    assert follower.next() == []
    bench.complete(trial)
    assert [e.kind for e in follower.next()] == ["trial_complete"]


def test_what_is_about_a_deleted_study_goes_and_the_deletion_stays_with_who_asked(bench):
    bench.create()
    bench.complete(bench.must_claim())
    bench.service.studies.delete("s", by="bob@desk")
    left = [e for e in bench.service.events.list() if e.kind != "worker_joined"]
    assert [(e.kind, e.study, e.details) for e in left] == [("study_deleted", None, {"study": "s", "by": "bob@desk"})]
