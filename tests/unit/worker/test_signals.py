"""A worker that is told to leave: the first signal drains, the second or the deadline aborts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.wire.messages import Admit, Stop
from hpo_service.worker.shutdown import ShutdownSignals

Trial = Callable[..., Assignment]


def _kill(world: Any, *seconds: float, number: signal.Signals = signal.SIGTERM) -> None:
    for second in seconds:
        world.clock.at(second, lambda: signal.raise_signal(number))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_saves_and_releases_every_held_trial(world: Any, trial: Trial, number: signal.Signals) -> None:
    _kill(world, 15.0, number=number)
    world.run(trial(0, slots=2), trial(1, slots=2), trial(2), until_finished=False)
    stops = [stop for _, stop in world.child.orders(Stop)]
    assert sorted(stop.trial for stop in stops) == ["s/search-0000/1", "s/search-0001/1"]
    assert all(stop.saves for stop in stops)
    assert [(o.kind, o.reason) for _, o in world.queue.outcomes] == [
        (OutcomeKind.RELEASED, f"the worker received {number.name}")
    ] * 2
    assert len(world.queue.waiting) == 1
    assert 15 < world.clock.passed < 18
    assert not world.child.killed


def test_a_signal_while_nothing_is_held_ends_the_worker_at_once(world: Any) -> None:
    _kill(world, 50.0)
    world.run(until_finished=False)
    assert 50 <= world.clock.passed <= 51


def test_a_signal_while_nothing_is_held_ends_an_idle_child_too(world: Any, trial: Trial) -> None:
    _kill(world, 100.0)
    world.run(trial(0), until_finished=False)
    assert 100 <= world.clock.passed <= 101
    assert world.child.closed


def test_at_the_deadline_the_child_is_killed_and_the_leases_are_released(world: Any, trial: Trial) -> None:
    world.script.obeys_in = None
    _kill(world, 15.0)
    world.run(trial(0, slots=2), trial(1, slots=2), drain_seconds=20.0, until_finished=False)
    assert world.child.killed
    assert 35 < world.clock.passed < 37
    assert world.queue.kinds() == [OutcomeKind.RELEASED] * 2
    assert all("aborted" in outcome.reason for _, outcome in world.queue.outcomes)


def test_a_second_signal_aborts_at_once(world: Any, trial: Trial) -> None:
    world.script.obeys_in = 60.0
    _kill(world, 15.0, 18.0)
    world.run(trial(0), until_finished=False)
    assert world.child.killed
    assert 18 <= world.clock.passed < 19.5
    assert world.queue.kinds() == [OutcomeKind.RELEASED]


def test_two_signals_at_the_same_moment_still_release_the_leases(world: Any, trial: Trial) -> None:
    _kill(world, 15.0, 15.0)
    world.run(trial(0), until_finished=False)
    assert world.child.killed
    assert world.queue.kinds() == [OutcomeKind.RELEASED]


def test_a_trial_that_was_to_be_pruned_is_pruned_even_when_its_worker_aborts(world: Any, trial: Trial) -> None:
    world.script.obeys_in = None
    world.queue.decisions[0, 1] = Decision(action="prune", reason="too far behind")
    _kill(world, 15.0, 16.0)
    world.run(trial(0), until_finished=False)
    assert world.queue.kinds() == [OutcomeKind.PRUNED]


def test_a_signal_in_the_middle_of_a_claim_gives_the_claimed_trial_back(world: Any, trial: Trial) -> None:
    world.queue.on_claim = lambda: signal.raise_signal(signal.SIGTERM)
    world.run(trial(0), trial(1), until_finished=False)
    assert world.queue.kinds() == [OutcomeKind.RELEASED]
    assert len(world.child.orders(Admit)) == 1
    assert len(world.queue.waiting) == 1


def test_leases_are_renewed_while_checkpoints_are_saved(world: Any, trial: Trial) -> None:
    world.script.obeys_in = 50.0
    _kill(world, 15.0)
    world.run(trial(0, lease_seconds=20.0), until_finished=False)
    assert len([time for time in world.queue.times("renew") if time > 15]) >= 8
    assert world.queue.kinds() == [OutcomeKind.RELEASED]


def test_a_trial_that_ends_by_itself_after_the_signal_is_complete(world: Any, trial: Trial) -> None:
    world.script.obeys_in = None
    world.clock.at(20.0, lambda: world.child._plan_step("s/search-0000/1"))
    world.script.steps = 2
    world.clock.at(16.0, lambda: world.child.step.update({"s/search-0000/1": 2}))
    _kill(world, 15.0)
    world.run(trial(0), until_finished=False)
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]


def test_during_an_outage_a_leaving_worker_waits_for_the_database_until_the_deadline(world: Any, trial: Trial) -> None:
    world.outage(12, 40)
    _kill(world, 15.0)
    world.run(trial(0), drain_seconds=60.0, until_finished=False)
    assert 40 < world.clock.passed < 55
    assert world.queue.kinds() == [OutcomeKind.RELEASED]


def test_an_outage_does_not_keep_a_worker_past_its_deadline(world: Any, trial: Trial) -> None:
    world.outage(12, 10_000)
    _kill(world, 15.0)
    world.run(trial(0), drain_seconds=30.0, until_finished=False)
    assert 45 < world.clock.passed < 47
    assert world.queue.outcomes == []


def test_an_aborting_worker_tries_the_database_once_more(world: Any, trial: Trial) -> None:
    world.outage(12, 24.9)
    _kill(world, 15.0, 25.0)
    world.run(trial(0), until_finished=False)
    assert world.queue.kinds() == [OutcomeKind.RELEASED]
    assert world.clock.passed < 26.5


def test_a_worker_that_was_told_to_drain_obeys_signals_too(world: Any, trial: Trial) -> None:
    world.script.obeys_in = None
    world.clock.at(5.0, lambda: setattr(world.queue, "draining", True))
    _kill(world, 30.0, 31.0)
    world.run(trial(0), until_finished=False)
    assert world.child.killed
    assert 31 <= world.clock.passed < 33
    assert world.queue.kinds() == [OutcomeKind.RELEASED]


def test_the_handlers_that_were_there_before_are_put_back(world: Any, trial: Trial) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    world.run(trial(0))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_first_reason_to_leave_stands() -> None:
    leaving = ShutdownSignals(lambda: 0.0, 10.0)
    leaving.ask("told to drain")
    leaving.ask("told again")
    assert leaving.reason == "told to drain"
    assert not leaving.begin()
    assert not leaving.at_once


def test_a_signal_is_obeyed_between_two_trials_that_only_repeat_values(world: Any) -> None:
    world.queue.copies = 5000
    world.queue.on_claim = lambda: signal.raise_signal(signal.SIGTERM) if world.queue.copies == 4990 else None
    world.run(until_finished=False)
    assert world.queue.copies >= 4989
    assert world.clock.passed < 1
