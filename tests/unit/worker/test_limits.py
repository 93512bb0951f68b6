"""A worker that is bounded: by time, by idleness, by what its study may cost; each is left in good order."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import OutOfTimeError, UnfitWorkerError
from hpo_service.service.trials.budget import Limits, Withheld
from hpo_service.wire.messages import Stop

Trial = Callable[..., Assignment]


def _needs(seconds: float) -> Callable[[Limits], Withheld | None]:
    def withholds(limits: Limits) -> Withheld | None:
        left = limits.seconds_left
        return Withheld("too little time is left", out_of_time=True) if left is not None and left < seconds else None

    return withholds


def test_at_the_end_of_its_time_a_worker_saves_gives_back_and_says_so(world: Any, trial: Trial) -> None:
    with pytest.raises(OutOfTimeError, match="time of 15 s is up"):
        world.run(trial(0), seconds=15.0, until_finished=False)
    assert [stop.saves for _, stop in world.child.orders(Stop)] == [True]
    assert world.queue.kinds() == [OutcomeKind.RELEASED]
    assert not world.child.killed
    assert 15 < world.clock.passed < 18


def test_a_worker_leaves_early_when_what_is_left_of_its_time_serves_no_trial(world: Any, trial: Trial) -> None:
    world.queue.withholds = _needs(60.0)
    world.run(trial(0), seconds=75.0, max_trials=1)
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]
    with pytest.raises(OutOfTimeError, match="too little time is left"):
        world.run(trial(1), trial(2), seconds=75.0, until_finished=False)
    assert len(world.queue.waiting) == 1


def test_a_worker_whose_whole_time_serves_no_trial_cannot_work(world: Any, trial: Trial) -> None:
    world.queue.withholds = _needs(60.0)
    with pytest.raises(UnfitWorkerError, match="too little time is left: give workers more time"):
        world.run(trial(0), seconds=50.0, until_finished=False)
    assert world.clock.passed < 5


def test_a_worker_that_finds_no_trial_leaves_after_its_patience(world: Any, trial: Trial) -> None:
    world.clock.at(40.0, lambda: world.queue.waiting.append(trial(0)))
    world.run(idle_seconds=60.0, until_finished=False)
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]
    assert world.clock.passed > 100


def test_an_outage_of_the_database_is_no_idleness(world: Any) -> None:
    world.outage(10.0, 500.0)
    world.run(idle_seconds=60.0, until_finished=False)
    assert world.clock.passed > 550


def test_a_worker_leaves_when_its_study_may_cost_no_more(world: Any, trial: Trial) -> None:
    world.queue.withholds = lambda limits: Withheld(f"at most {limits.max_device_hours:g} hours")
    world.run(trial(0), study="s", max_device_hours=3.0, until_finished=False)
    assert (world.queue.kinds(), len(world.queue.waiting)) == ([], 1)


def test_a_request_to_leave_never_aborts_however_often_it_comes(world: Any, trial: Trial) -> None:
    for second in (15.0, 15.0, 16.0, 17.0):
        world.clock.at(second, lambda: signal.raise_signal(signal.SIGUSR1))
    world.clock.at(16.5, lambda: signal.raise_signal(signal.SIGTERM))
    world.script.obeys_in = 10.0
    world.run(trial(0), until_finished=False)
    assert not world.child.killed
    assert world.queue.kinds() == [OutcomeKind.RELEASED]
    assert 25 <= world.clock.passed < 28
