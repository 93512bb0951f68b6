"""Unlike workers in one fleet: a stage goes to those that have what it needs, and one that nobody can run says so."""

from __future__ import annotations

import logging

import pytest

from hpo_service.domain.decide.placement import Resources
from hpo_service.errors import UnfitWorkerError
from hpo_service.presentation.events import events
from hpo_service.presentation.outlook import outlook
from hpo_service.service.trials.placement import ASK_SECONDS
from tests.counting import statements

BIG, SMALL = Resources(1, 85.0, ("gpu",)), Resources(1, 10.0, ("gpu", "mig"))
NEEDS_MUCH = {"requires": {"memory_gb": 40}}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def kinds(bench):
    return lambda: [row.kind for row in bench.service.events.list("s") if row.kind == "stage_unserved"]


def test_a_trial_goes_to_the_worker_that_has_what_it_needs(bench, kinds):
    bench.register("w1", SMALL)
    bench.register("w2", BIG)
    bench.create(execution=NEEDS_MUCH)
    assert bench.with_resources(SMALL).claim("w1") is None
    assert bench.with_resources(BIG).claim("w2").number == 0
    assert kinds() == []


def test_a_trial_that_waits_is_not_given_to_a_worker_that_cannot_run_it(bench):
    bench.register("w2", BIG)
    bench.create(execution=NEEDS_MUCH)
    big, small = bench.with_resources(BIG), bench.with_resources(SMALL)
    bench.run_out(big.claim("w2"))
    bench.service.reaper.reap()
    assert small.claim("w1") is None
    assert big.claim("w2").attempt == 2


def test_another_study_is_served_by_a_worker_that_cannot_serve_the_first(bench):
    bench.create(execution=NEEDS_MUCH)
    bench.create(name="t")
    assert bench.with_resources(SMALL).claim("w1").study == "t"


def test_a_stage_that_nobody_can_run_is_told_once_and_shown(bench, kinds, caplog):
    caplog.set_level(logging.WARNING)
    for worker in ("w1", "w2"):
        bench.register(worker, SMALL)
    bench.create(execution={"requires": {"memory_gb": 40, "labels": ["mig"]}})
    before = bench.service.reader.snapshot("s")
    clock = Clock()
    workers = [bench.with_resources(SMALL, clock) for _ in range(2)]
    for _ in range(3):
        assert [queue.claim("w1") for queue in workers] == [None, None]
        clock.now += ASK_SECONDS
    assert len(kinds()) == 1
    snapshot = bench.service.reader.snapshot("s")
    told = snapshot.current.unserved
    assert told.startswith("nobody can run search: none of 2 workers has all; one lacks only 40 GB on each GPU; start")
    assert outlook(snapshot) == told
    assert [event.text for event in events(before, snapshot)] == [told]
    assert events(snapshot, snapshot) == []
    assert [record.getMessage() for record in caplog.records] == [f"s/search: {told}"]


def test_a_worker_that_can_run_it_ends_the_complaint_and_it_is_news_again_once_that_has_left(bench, kinds):
    bench.register("w1", SMALL)
    bench.register("w2", SMALL)
    bench.create(execution=NEEDS_MUCH)
    clock = Clock()
    small, big = bench.with_resources(SMALL, clock), bench.with_resources(BIG, clock)
    assert small.claim("w1") is None
    bench.register("w2", BIG)
    assert big.claim("w2") is not None
    assert bench.service.reader.snapshot("s").current.unserved == ""
    bench.service.workers.retire("w2")
    assert small.claim("w1") is None
    assert len(kinds()) == 1
    clock.now += ASK_SECONDS
    assert small.claim("w1") is None
    assert len(kinds()) == 2


def test_a_poll_of_a_worker_that_cannot_serve_costs_one_look_whatever_has_ended(bench):
    bench.register("w1", SMALL)
    bench.register("w2", BIG)
    bench.create(execution=NEEDS_MUCH, search={"budget": {"trials": 30}, "pruner": "none"})
    small, big = bench.with_resources(SMALL), bench.with_resources(BIG)
    costs = []
    for _ in range(3):
        small.claim("w1")
        with statements(bench.service.db) as sent:
            assert small.claim("w1") is None
        costs.append(len(sent))
        for _ in range(5):
            bench.complete(big.claim("w2"))
    assert len(set(costs)) == 1
    assert costs[0] <= 3


def test_a_worker_started_for_a_study_of_which_it_can_run_no_stage_leaves(bench):
    bench.create(execution={"requires": {"labels": ["fast"]}})
    bench.service.checks.require("s", Resources(labels=("cpu", "fast")))
    with pytest.raises(UnfitWorkerError, match=r"no stage of study s \(search needs label fast\): .*--label"):
        bench.service.checks.require("s", Resources(labels=("cpu",)))
