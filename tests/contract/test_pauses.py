"""After an error a trial waits, longer each time, and another worker may have it first."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service.domain.decide.retry import PAUSES, SAME_WORKER
from hpo_service.domain.trial.states import TrialEvent
from tests.pauses import let_pass


def fail(world: Any, trial: Any, event: TrialEvent = TrialEvent.ERROR) -> None:
    with world.db.transaction():
        world.trials.requeue(trial.id, event, reason="no route to the hub")


@pytest.mark.parametrize("errors", [1, 2, 3, 6])
def test_a_trial_waits_longer_with_each_error_and_longest_for_the_worker_that_failed_it(
    world: Any, errors: int
) -> None:
    trial = world.admit(worker="w1")
    for _ in range(errors - 1):
        fail(world, trial)
        trial = world.claim("w1")
    fail(world, trial)
    pause = PAUSES[min(errors, len(PAUSES)) - 1]
    let_pass(world.db, pause - 1.0)
    assert world.claim_now("w2") is None
    let_pass(world.db, 1.0)
    assert world.claim_now("w1") is None
    taken = world.claim_now("w2")
    assert (taken.id, taken.errors) == (trial.id, errors)


def test_the_only_worker_has_it_after_the_longer_pause(world: Any) -> None:
    trial = world.admit(worker="w1")
    fail(world, trial)
    let_pass(world.db, SAME_WORKER * PAUSES[0])
    assert world.claim_now("w1").id == trial.id


def test_trials_that_wait_for_nothing_are_taken_meanwhile(world: Any) -> None:
    first, second = world.plan(2)
    fail(world, world.claim("w1"))
    taken = world.claim_now("w1")
    assert (first.id, second.id) == (first.id, taken.id)


@pytest.mark.parametrize("event", [TrialEvent.RELEASE, TrialEvent.EXPIRE])
def test_what_was_given_back_or_lost_does_not_wait(world: Any, event: TrialEvent) -> None:
    trial = world.admit(worker="w1")
    fail(world, trial, event)
    assert world.claim_now("w1").id == trial.id


def test_an_error_is_forgotten_after_a_later_attempt_that_was_given_back(world: Any) -> None:
    trial = world.admit(worker="w1")
    fail(world, trial)
    fail(world, world.claim("w1"), TrialEvent.RELEASE)
    assert world.claim_now("w1").id == trial.id


def test_an_error_in_the_future_by_a_clock_that_was_set_back_keeps_nobody_waiting(world: Any) -> None:
    trial = world.admit(worker="w1")
    fail(world, trial)
    let_pass(world.db, -3600.0)
    assert world.claim_now("w1").id == trial.id
