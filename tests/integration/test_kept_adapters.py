"""Of search and verify the adapters of the best trials are kept, of confirm all; a lost checkpoint is an event."""

from __future__ import annotations

import pytest

from hpo_service.errors import StaleLeaseError
from hpo_service.service.trials.adapters import KeptAdapters
from hpo_service.storage.trial.adapters import AdapterStore


@pytest.fixture
def kept(bench):
    made = bench.service
    return KeptAdapters(made.db, made.study_rows, made.trial_rows, AdapterStore(made.db))


@pytest.fixture
def end(bench, kept):
    """Ends the next trial with a value and an adapter; returns the adapters that are given up for it."""

    def end(value, reaches=lambda adapter: True):
        trial = bench.must_claim()
        bench.complete(trial, value, adapter=f"/out/{value}/adapter")
        return kept.give_up(trial.lease.trial_id, reaches)

    return end


def adapters(bench):
    return {trial.value: trial.adapter for trial in bench.trials() if trial.adapter}


def test_the_best_so_far_displace_the_others(bench, trained, end):
    bench.create(**trained, execution={"keep_adapters": 2})
    assert [end(3.0), end(2.0), end(4.0), end(1.0)] == [[], [], ["/out/4.0/adapter"], ["/out/3.0/adapter"]]
    assert sorted(adapters(bench)) == [1.0, 2.0]


def test_where_more_is_better_the_highest_are_kept(bench, end):
    bench.create(execution={"keep_adapters": 1}, search={"budget": {"trials": 4}, "direction": "maximize"})
    assert [end(3.0), end(2.0), end(4.0)] == [[], ["/out/2.0/adapter"], ["/out/3.0/adapter"]]


def test_what_lies_on_another_node_is_left_to_that_node(bench, trained, end):
    bench.create(**trained, execution={"keep_adapters": 1})
    end(2.0)
    assert end(1.0, reaches=lambda adapter: "/out/1.0" in adapter) == []
    assert sorted(adapters(bench)) == [1.0, 2.0]
    assert end(3.0) == ["/out/2.0/adapter", "/out/3.0/adapter"]


@pytest.mark.parametrize("keep, wanted", [(0, False), (1, True)])
def test_a_trial_saves_its_adapter_where_one_may_be_kept(bench, trained, keep, wanted):
    bench.create(**trained, execution={"keep_adapters": keep})
    assert bench.must_claim().config.keep_adapter is wanted


def test_an_objective_of_ones_own_keeps_what_it_trains_itself(bench):
    bench.create(execution={"keep_adapters": 3})
    assert bench.must_claim().config.keep_adapter is False


def test_a_lost_checkpoint_is_an_event_of_its_trial_and_only_its_holder_can_tell(bench):
    bench.create()
    trial = bench.must_claim()
    bench.service.queue.lose_checkpoint(trial.lease, "the disk is full")
    [event] = [each for each in bench.service.events.list("s") if each.kind == "checkpoint_lost"]
    assert (event.reason, event.number, event.worker) == ("the disk is full", 0, "w1")
    bench.complete(trial)
    with pytest.raises(StaleLeaseError):
        bench.service.queue.lose_checkpoint(trial.lease, "too late")
