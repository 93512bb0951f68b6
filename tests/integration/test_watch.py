"""Who looks at a study again and again sees what a whole reading shows, at a cost that does not grow."""

from __future__ import annotations

import random

import pytest

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import DatabaseUnavailableError
from hpo_service.presentation.events import events
from hpo_service.presentation.outlook import outlook
from tests.counting import statements


def same(seen, whole):
    """What is counted and shown of a study is the same in both."""
    assert (seen.name, seen.state, seen.reason) == (whole.name, whole.state, whole.reason)
    assert [view.stage for view in seen.stages] == [view.stage for view in whole.stages]
    for ours, theirs in zip(seen.stages, whole.stages, strict=True):
        assert {s: ours.count(s) for s in TrialState} == {s: theirs.count(s) for s in TrialState}
        assert (ours.ended, ours.tally.total) == (theirs.ended, len(theirs.trials))
        assert ours.tally.device_seconds == pytest.approx(theirs.tally.device_seconds)
        best = [view.best(Direction.MINIMIZE) for view in (ours, theirs)]
        assert best[0] is best[1] is None or best[0].id == best[1].id
        running = [[t.id for t in view.trials if not t.state.final] for view in (ours, theirs)]
        assert running[0] == running[1]
    assert outlook(seen).split(" left")[0][:5] == outlook(whole).split(" left")[0][:5]


def told(before, now):
    """Events as a set: those of one look come in the order of trials."""
    return {event.text for event in events(before, now)}


def test_a_watch_and_a_whole_reading_agree_whatever_happens(bench):
    bench.create(search={"budget": {"trials": 40}, "pruner": "none"}, execution={"max_attempts": 1})
    draw, held, ended = random.Random(5), [], []
    watch, before, whole_before = bench.service.watch, None, None
    for _ in range(70):
        action = draw.choice(["claim", "report", "finish", "prune", "fail", "release", "cancel", "retry", "nothing"])
        if action == "claim" and (claimed := bench.claim()) is not None:
            held.append(claimed)
        elif action == "report" and held:
            bench.report(held[0], draw.randint(1, 9), draw.random())
        elif action in ("finish", "prune", "fail", "release") and held:
            kinds = {"finish": "complete", "prune": "pruned", "fail": "error", "release": "released"}
            trial = held.pop(draw.randrange(len(held)))
            bench.end(trial, OutcomeKind(kinds[action]), value=draw.random())
            ended.append(trial)
        elif action == "retry":
            failed = [t for t in bench.trials() if t.state is TrialState.FAILED and t.number is not None]
            if failed:
                bench.service.studies.retry_trial("s", "search", failed[0].number)
        if draw.random() < 0.6:
            seen, whole = watch.snapshot("s"), bench.service.reader.snapshot("s")
            same(seen, whole)
            assert told(before, seen) == told(whole_before, whole)
            before, whole_before = seen, whole


def test_a_watch_follows_a_study_through_its_stages(bench, trained):
    from tests.integration.conftest import Trained

    bench.create(**trained, search={"budget": {"trials": 5}, "pruner": "none"})
    bench.service.queue.describe("s", Trained.facts)
    watch = bench.service.watch
    while True:
        same(watch.snapshot("s"), bench.service.reader.snapshot("s"))
        assignment = bench.claim()
        if assignment is None:
            if not bench.service.stages.advance_all():
                break
            continue
        bench.report(assignment, 1, float(assignment.number), 1.0)
        bench.complete(assignment, float(assignment.number))
    assert bench.state() is StudyState.FINISHED
    assert len(watch.snapshot("s").stages) == 3


def test_a_revived_trial_is_told_of_and_counted_where_it_is(bench):
    bench.create(execution={"max_attempts": 1})
    bench.end(bench.must_claim(), OutcomeKind.ERROR)
    watch = bench.service.watch
    watch.snapshot("s")
    before = watch.snapshot("s")
    bench.service.studies.retry_trial("s", "search", 0)
    now = watch.snapshot("s")
    same(now, bench.service.reader.snapshot("s"))
    assert told(before, now) == {"search planned went back to the queue: to be tried again"}


def test_a_trial_that_was_revived_and_ended_between_two_looks_is_counted_once(bench):
    bench.create(execution={"max_attempts": 1})
    bench.end(bench.must_claim(), OutcomeKind.ERROR)
    watch = bench.service.watch
    watch.snapshot("s")
    watch.snapshot("s")
    bench.service.studies.retry_trial("s", "search", 0)
    bench.complete(bench.must_claim(), 1.0)
    same(watch.snapshot("s"), bench.service.reader.snapshot("s"))


def test_a_look_that_broke_off_tells_nothing_and_loses_nothing(bench, monkeypatch):
    bench.create()
    watch = bench.service.watch
    before = watch.snapshot("s")
    bench.complete(bench.must_claim(), 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(bench.service.db, "clock", lambda: (_ for _ in ()).throw(DatabaseUnavailableError("away")))
        with pytest.raises(DatabaseUnavailableError):
            watch.snapshot("s")
    assert told(before, watch.snapshot("s")) == {"search #0 complete: 1.0000, the best so far"}


def test_a_look_lists_only_what_is_open_or_new_and_the_latest_report(bench):
    bench.create(search={"budget": {"trials": 12}, "pruner": "none"})
    for number in range(9):
        bench.complete(bench.must_claim(), float(number))
    running = bench.must_claim()
    for step in (1, 2, 3):
        bench.report(running, step, 1.0 / step)
    watch = bench.service.watch
    watch.snapshot("s")
    with statements(bench.service.db) as sent:
        [view] = watch.snapshot("s").stages
    assert [trial.number for trial in view.trials] == [9]
    assert [report.step for report in view.trials[0].curve] == [3]
    assert len(sent) < 12
