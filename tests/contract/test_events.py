"""The contract of events, on every kind of database: written with the thing itself, in order, bounded, never lost."""

from __future__ import annotations

import pytest

from hpo_service.domain.events import EventKind
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.events import Events
from hpo_service.storage.events import REASON_CHARACTERS, About
from hpo_service.storage.workers import WorkerStore


@pytest.fixture
def listed(world):
    def listed(**about: object) -> list[tuple[str, str]]:
        with world.db.transaction(read_only=True):
            return [(row.kind, row.reason) for row in world.studies.events.list(About(**about))]

    return listed


def test_moves_of_a_study_and_its_stages_are_events(world, listed):
    with world.db.transaction():
        world.studies.set_state(world.study.id, StudyState.PAUSED, "night", by="alice@desk")
        world.studies.close_stage(world.stage.id, "done")
        world.studies.close_stage(world.stage.id, "done twice")
        world.studies.reopen_stage(world.stage.id, "more")
    assert listed(study_id=world.study.id) == [
        ("study_created", "created"),
        ("stage_opened", "the tests need it"),
        ("study_paused", "night"),
        ("stage_closed", "done"),
        ("stage_reopened", "more"),
    ]
    with world.db.transaction():
        paused = world.studies.events.list(About(study_id=world.study.id))[2]
    assert (paused.study, paused.details) == (world.study.name, {"by": "alice@desk"})


def test_a_step_that_fails_leaves_no_event(world, listed):
    before = listed()

    def step() -> None:
        with world.db.transaction():
            world.studies.set_state(world.study.id, StudyState.FAILED, "no")
            raise ValueError("undone")

    with pytest.raises(ValueError, match="undone"):
        step()
    assert listed() == before


def test_a_planned_trial_is_found_under_the_number_it_gets_and_under_those_it_had(world):
    (planned, _) = world.plan(2)
    with world.db.transaction():
        for number in (0, 1):
            world.trials.bind(planned.id, 10 + number, number)
            world.trials.events.of_trial(EventKind.TRIAL_CLAIMED, world.trials.get(planned.id), "taken", "w1")
        place = {"study_id": world.study.id, "stage_id": world.stage.id}
        for number in (0, 1):
            found = world.studies.events.list(About(**place, number=number))
            assert [row.number for row in found] == [None, 0, 1]
        assert world.studies.events.list(About(**place, number=7)) == []


def test_moves_of_workers_are_events_and_signs_of_life_are_none(world, listed):
    workers = WorkerStore(world.db)
    with world.db.transaction():
        workers.register("w1", "host", 1, "0.1.0", "cpu")
        for _ in range(3):
            workers.beat("w1", "busy")
        assert workers.mark_lost(-1.0) == ["w1"]
        workers.beat("w1")
        workers.beat("w1")
        workers.drain("w1", "service")
        workers.drain("w1", "service again")
        workers.stop("w1", "left")
        workers.drain("w1", "too late")
    assert listed(worker="w1") == [
        ("worker_joined", "registered"),
        ("worker_lost", "silent for more than -1 seconds"),
        ("worker_returned", "heard from again"),
        ("worker_draining", "service"),
        ("worker_left", "left"),
    ]


def test_a_long_reason_is_cut(world, listed):
    with world.db.transaction():
        world.studies.events.of_study(EventKind.STUDY_FAILED, world.study.id, "x" * 100_000)
    assert len(listed(study_id=world.study.id)[-1][1]) == REASON_CHARACTERS


def test_lists_begin_after_an_id_and_keep_the_last(world):
    world.plan(5)
    with world.db.transaction():
        events = world.studies.events
        ids = [row.id for row in events.list(About())]
        assert ids == sorted(ids)
        assert [row.id for row in events.list(About(), after=ids[3])] == ids[4:]
        assert [row.id for row in events.list(About(), last=2)] == ids[-2:]


@pytest.mark.parametrize("dialect", ["postgresql"])  # SQLite has one writer, so ids commit in order
def test_a_follower_tells_what_commits_after_a_later_id(world, another):
    late = another()
    follower = Events(world.db, world.studies, world.studies.events).follow(world.study.name)
    follower.next()
    with late.db.transaction():
        late.studies.events.of_study(EventKind.STUDY_RESUMED, world.study.id, "first, commits last")
        with world.db.transaction():
            world.studies.events.of_study(EventKind.STUDY_PAUSED, world.study.id, "second, commits first")
        assert [row.reason for row in follower.next()] == ["second, commits first"]
    assert [row.reason for row in follower.next()] == ["first, commits last"]
    assert follower.next() == []


def test_a_settled_trial_has_no_event_without_the_ledger(world, listed):
    """The store alone writes none: the ledger says what a move was for."""
    trial = world.admit()
    with world.db.transaction():
        world.trials.settle(trial.id, TrialState.COMPLETE, reason="done", value=1.0)
    assert [kind for kind, _ in listed(study_id=world.study.id)] == ["study_created", "stage_opened"]
