"""The database goes away, or gives the trial to somebody else, while a child trains on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.wire.messages import Admit, Continue, Stop

Trial = Callable[..., Assignment]


def _deliveries(world: Any) -> list[tuple[int, int]]:
    return [about for _, call, about in world.queue.log if call == "report"]


# away for less than the lease


def test_reports_of_an_outage_arrive_afterwards_once_and_in_order(world: Any, trial: Trial) -> None:
    world.script.steps = 8
    world.outage(15, 60)
    world.run(trial(0, lease_seconds=100.0))
    assert _deliveries(world) == [(0, step) for step in range(1, 9)]
    late = world.queue.times("report")[1:6]
    assert 60 <= late[0] < 75
    assert late[4] - late[0] < 1.0
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]


def test_the_child_trains_on_during_an_outage(world: Any, trial: Trial) -> None:
    world.script.steps = 5
    world.outage(15, 45)
    world.run(trial(0, lease_seconds=100.0))
    answered = [round(time) for time, _ in world.child.orders(Continue)]
    assert answered == [10, 20, 30, 40, 50]


def test_a_trial_that_ends_during_an_outage_is_settled_after_its_reports(world: Any, trial: Trial) -> None:
    world.outage(15, 70)
    world.run(trial(0, lease_seconds=100.0), trial(1, lease_seconds=100.0))
    calls = [(call, about) for _, call, about in world.queue.log if call in ("report", "finish")]
    assert calls[:4] == [("report", (0, 1)), ("report", (0, 2)), ("report", (0, 3)), ("finish", 0)]
    assert world.child.orders(Admit)[1][0] > 70
    assert world.queue.kinds() == [OutcomeKind.COMPLETE] * 2


def test_a_decision_to_prune_that_comes_late_still_stops_the_child(world: Any, trial: Trial) -> None:
    world.script.steps = 8
    world.queue.decisions[0, 2] = Decision(action="prune", reason="too far behind")
    world.outage(15, 45)
    world.run(trial(0, lease_seconds=100.0))
    ((time, stop),) = world.child.orders(Stop)
    assert time > 45
    assert not stop.saves
    ((_, outcome),) = world.queue.outcomes
    assert (outcome.kind, outcome.reason) == (OutcomeKind.PRUNED, "too far behind")
    assert outcome.value == 3.0 - world.queue.reports[0][-1]


@pytest.mark.parametrize("call", ["report", "finish"])
def test_a_call_whose_answer_was_lost_is_made_again_without_harm(world: Any, trial: Trial, call: str) -> None:
    world.queue.forget_answer_of.add(call)
    world.run(trial(0), trial(1))
    assert world.queue.reports == {0: [1, 2, 3], 1: [1, 2, 3]}
    assert world.queue.kinds() == [OutcomeKind.COMPLETE] * 2


def test_the_database_is_left_alone_between_tries(world: Any, trial: Trial) -> None:
    world.outage(5, 55)
    world.run(trial(0, lease_seconds=100.0))
    tries = [time for time, _ in world.queue.tries if 5 <= time < 55]
    assert 5 <= len(tries) <= 20
    assert all(after > before for before, after in itertools.pairwise(tries))


def test_an_outage_is_told_in_the_log_once(world: Any, trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    world.outage(1, 40)
    world.run(trial(0, lease_seconds=100.0, slots=2))
    assert sum("training goes on" in record.message for record in caplog.records) == 1


def test_a_lease_that_was_renewed_after_an_outage_is_not_taken_for_expired_by_older_reports(
    world: Any, trial: Trial
) -> None:
    world.script.steps = 14
    world.outage(4, 44)
    world.outage(56, 95)
    world.run(trial(0, lease_seconds=60.0))
    assert world.child.orders(Stop) == []
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]


def test_a_worker_without_trials_waits_for_the_database(world: Any, trial: Trial) -> None:
    world.outage(0, 100)
    world.run(trial(0))
    assert world.child.orders(Admit)[0][0] >= 100
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]


def test_whether_the_study_has_ended_is_not_guessed_during_an_outage(world: Any) -> None:
    world.outage(0, 100)
    world.run()
    assert 100 <= world.clock.passed < 115


# away for longer than the lease


def test_the_lease_is_counted_from_the_last_answer_of_whatever_kind(world: Any, trial: Trial) -> None:
    world.script.steps = 50
    world.outage(21, 300)
    world.run(trial(0, lease_seconds=100.0), max_trials=1)
    assert max(world.queue.times("renew")[0], 0) < 2
    ((time, _),) = world.child.orders(Stop)
    assert 120 < time < 131


def test_at_expiry_the_child_is_told_to_save_and_stop(world: Any, trial: Trial) -> None:
    world.script.steps = 50
    world.outage(15, 200)
    world.run(trial(0, lease_seconds=60.0), max_trials=1)
    ((time, stop),) = world.child.orders(Stop)
    assert 60 < time < 80
    assert stop.saves
    assert "longer than the lease of 60 s" in stop.reason


def test_a_trial_nobody_took_meanwhile_gets_its_reports_and_is_given_back(world: Any, trial: Trial) -> None:
    world.script.steps = 50
    world.outage(15, 200)
    world.run(trial(0, lease_seconds=60.0), max_trials=1)
    assert world.queue.reports[0] == list(range(1, len(world.queue.reports[0]) + 1))
    assert len(world.queue.reports[0]) >= 6
    ((_, outcome),) = world.queue.outcomes
    assert outcome.kind is OutcomeKind.RELEASED
    assert "longer than the lease" in outcome.reason
    assert min(world.queue.times("report")[1:]) >= 200


def test_of_a_trial_that_was_taken_meanwhile_nothing_is_written(world: Any, trial: Trial) -> None:
    world.script.steps = 50
    world.outage(15, 200)
    world.clock.at(199, lambda: world.queue.stale.add(0))
    world.run(trial(0, lease_seconds=60.0), max_trials=1)
    assert world.queue.reports == {0: [1]}
    assert world.queue.outcomes == []


def test_after_it_a_trial_of_another_is_run(world: Any, trial: Trial) -> None:
    world.script.steps = 12
    world.outage(15, 200)
    world.clock.at(199, lambda: world.queue.stale.add(0))
    world.run(trial(0, lease_seconds=60.0), trial(1, lease_seconds=60.0))
    assert [number for number, _ in world.queue.outcomes] == [1]
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]


# a lease that is no longer ours


@pytest.mark.parametrize("seconds", [10.0, 25.0], ids=["learned from a report", "learned from a renewal"])
def test_a_stale_holder_stops_writes_nothing_more_and_goes_on_with_the_next_trial(
    world: Any, trial: Trial, seconds: float
) -> None:
    world.script.seconds = seconds
    world.clock.at(seconds + 2, lambda: world.queue.stale.add(0))
    world.run(trial(0), trial(1))
    ((_, stop),) = world.child.orders(Stop)
    assert stop.trial == "s/search-0000/1"
    assert stop.saves
    assert world.queue.reports == {0: [1], 1: [1, 2, 3]}
    assert [number for number, _ in world.queue.outcomes] == [1]


def test_a_result_that_is_refused_changes_nothing_and_the_next_trial_runs(world: Any, trial: Trial) -> None:
    world.clock.at(30.1, lambda: world.queue.stale.add(0))
    world.run(trial(0), trial(1))
    assert [number for number, _ in world.queue.outcomes] == [1]
    assert world.child.orders(Stop) == []


def test_the_next_trial_waits_until_the_child_has_let_go_of_the_lost_one(world: Any, trial: Trial) -> None:
    world.script.obeys_in = 8.0
    world.clock.at(5, lambda: world.queue.stale.add(0))
    world.run(trial(0), trial(1))
    ((stopped, _),) = world.child.orders(Stop)
    assert world.child.orders(Admit)[1][0] >= stopped + 8.0


def test_a_lost_trial_that_is_never_let_go_of_costs_the_child(world: Any, trial: Trial) -> None:
    world.script.obeys_in = None
    world.clock.at(5, lambda: world.queue.stale.add(0))
    world.run(trial(0, hang_seconds=30.0), trial(1, hang_seconds=30.0))
    assert [child.killed for child in world.children] == [True, False]
    assert [number for number, _ in world.queue.outcomes] == [1]


def test_a_lost_trial_is_not_renewed_and_reports_nothing_although_its_child_still_does(
    world: Any, trial: Trial
) -> None:
    world.script.obeys_in = 30.0
    world.clock.at(5, lambda: world.queue.stale.add(0))
    world.clock.at(12, lambda: world.child._plan_step("s/search-0000/1"))
    world.run(trial(0))
    lost_at = world.child.orders(Stop)[0][0]
    assert [time for time, call in world.queue.tries if call == "write" and time > lost_at] == []
    assert all(0 not in about for time, call, about in world.queue.log if call == "renew" and time > lost_at)
    assert world.queue.reports == {}


def test_a_neighbour_of_a_lost_trial_is_not_disturbed(world: Any, trial: Trial) -> None:
    world.clock.at(12, lambda: world.queue.stale.add(0))
    world.run(trial(0, slots=2), trial(1, slots=2))
    assert [(n, o.kind) for n, o in world.queue.outcomes] == [(1, OutcomeKind.COMPLETE)]


def test_a_study_that_was_deleted_frees_its_worker(world: Any, trial: Trial) -> None:
    world.queue.deleted = True
    world.clock.at(1, lambda: setattr(world.queue, "deleted", False))
    world.run(trial(0), trial(1))
    assert [number for number, _ in world.queue.outcomes] == [1]
    ((_, stop),) = world.child.orders(Stop)
    assert "there is no study" in stop.reason
