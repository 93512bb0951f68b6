"""Trials counted by state, and their device time."""

from __future__ import annotations

from hpo_service.domain.trial.states import TrialState
from hpo_service.domain.trial.tally import Tally

COMPLETE, PRUNED, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING


def test_trials_are_counted_by_state_with_their_device_time() -> None:
    tally = Tally.of([(COMPLETE, 30.0, 20.0), (COMPLETE, 0.0, 0.0), (PRUNED, 10.0, 10.0), (RUNNING, 0.0, 0.0)])
    assert (tally.total, tally.count(COMPLETE), tally.count(COMPLETE, PRUNED)) == (4, 2, 3)
    assert tally.device_seconds == 40.0


def test_the_mean_time_is_what_those_took_themselves_that_took_any() -> None:
    tally = Tally.of([(COMPLETE, 35.0, 30.0), (COMPLETE, 5.0, 0.0), (PRUNED, 12.0, 10.0)])
    assert tally.mean_seconds(COMPLETE) == 30.0
    assert tally.mean_seconds(COMPLETE, PRUNED) == 20.0
    assert tally.mean_seconds(RUNNING) is None


def test_two_tallies_together_are_the_tally_of_all() -> None:
    some, more = [(COMPLETE, 1.0, 0.5), (RUNNING, 0.0, 0.0)], [(COMPLETE, 2.0, 2.0), (PRUNED, 0.5, 0.0)]
    both, all_of_them = Tally.of(some) + Tally.of(more), Tally.of([*some, *more])
    for state in TrialState:
        assert both.count(state) == all_of_them.count(state)
        assert both.mean_seconds(state) == all_of_them.mean_seconds(state)
    assert (Tally() + Tally()).total == 0
