"""The table of moves, over every pair of state and event."""

from __future__ import annotations

import itertools

import pytest

from hpo_service.domain.trial.states import TRANSITIONS, StudyState, TrialEvent, TrialState, next_state

S, E = TrialState, TrialEvent
ENDINGS = {E.COMPLETE: S.COMPLETE, E.PRUNE: S.PRUNED, E.INFEASIBLE: S.INFEASIBLE, E.GIVE_UP: S.FAILED}
GIVEN_BACK = {E.ERROR, E.RELEASE, E.EXPIRE}


def expected(state: TrialState, event: TrialEvent) -> TrialState | None:
    """The rules in other words than the table's."""
    if event is E.CLAIM:
        return S.RUNNING if state is S.WAITING else None
    if event is E.CANCEL:
        return None if state.final else S.CANCELLED
    if event is E.RETRY:
        return S.WAITING if state in (S.FAILED, S.CANCELLED) else None
    if state is not S.RUNNING:
        return None
    if event is E.REPORT:
        return S.RUNNING
    return S.WAITING if event in GIVEN_BACK else ENDINGS[event]


@pytest.mark.parametrize("state, event", list(itertools.product(TrialState, TrialEvent)))
def test_every_pair_of_state_and_event_moves_as_the_rules_say(state, event):
    assert next_state(state, event) is expected(state, event)


def test_an_ended_trial_is_moved_by_a_person_only():
    for (state, event), after in TRANSITIONS.items():
        if state.final:
            assert event is E.RETRY
            assert after is S.WAITING


def test_a_measured_trial_stays_as_it_is():
    for state in (S.COMPLETE, S.PRUNED, S.INFEASIBLE):
        assert all(next_state(state, event) is None for event in TrialEvent)


def test_only_waiting_and_running_trials_are_unfinished():
    assert [state for state in TrialState if not state.final] == [S.WAITING, S.RUNNING]


def test_every_state_can_be_reached():
    assert {S.WAITING, *TRANSITIONS.values()} == set(TrialState)


def test_a_paused_or_draining_study_has_not_ended():
    ended = {state for state in StudyState if state.final}
    assert ended == {StudyState.CANCELLED, StudyState.FINISHED, StudyState.FAILED}
