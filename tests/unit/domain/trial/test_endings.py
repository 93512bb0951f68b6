"""The table of endings: every row is a legal move, everything that ends is in it, and every reader has an answer."""

from __future__ import annotations

import pytest

from hpo_service.domain.trial.curve import Curve
from hpo_service.domain.trial.endings import ENDINGS, FINAL, LABELS, SAID, STORED, STYLES, Ending, ends_so
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.domain.trial.states import OutcomeKind, TrialEvent, TrialState, next_state

ROWS = list(ENDINGS.values())
NOT_ENDINGS = {TrialEvent.CLAIM, TrialEvent.REPORT, TrialEvent.RETRY}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.closed_as)
def test_every_ending_is_a_legal_move_of_a_running_trial(row: Ending) -> None:
    assert next_state(TrialState.RUNNING, row.event) is row.state


def test_every_event_that_ends_an_attempt_has_a_row() -> None:
    assert set(ENDINGS) == set(TrialEvent) - NOT_ENDINGS


def test_every_final_state_and_every_outcome_of_a_holder_has_one_row() -> None:
    assert set(FINAL) == {state for state in TrialState if state.final}
    assert set(SAID) == set(OutcomeKind)
    assert len(STORED) == len(FINAL) + sum(not row.state.final for row in ROWS) == len(ROWS)


def test_attempts_and_trials_are_stored_under_the_names_they_always_had() -> None:
    assert {row.event: row.closed_as for row in ROWS} == {
        TrialEvent.COMPLETE: "complete",
        TrialEvent.PRUNE: "pruned",
        TrialEvent.INFEASIBLE: "infeasible",
        TrialEvent.GIVE_UP: "failed",
        TrialEvent.CANCEL: "cancelled",
        TrialEvent.ERROR: "error",
        TrialEvent.EXPIRE: "loss",
        TrialEvent.RELEASE: "release",
    }
    assert all(row.closed_as == row.state for row in ROWS if row.state.final)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.closed_as)
def test_a_trial_has_ended_in_optunas_study_exactly_where_it_has_ended_in_ours(row: Ending) -> None:
    assert (row.optuna is not None) is row.state.final
    assert row.counts is None or row.state is TrialState.WAITING


def test_measured_trials_teach_and_failed_ones_do_not() -> None:
    assert {row.closed_as for row in ROWS if row.teaches} == {"complete", "pruned", "infeasible"}


@pytest.mark.parametrize(
    "kind, stored",
    [
        (OutcomeKind.COMPLETE, {"complete"}),
        (OutcomeKind.PRUNED, {"pruned"}),
        (OutcomeKind.INFEASIBLE, {"infeasible"}),
        (OutcomeKind.CANCELLED, {"cancelled"}),
        (OutcomeKind.ERROR, {"error", "failed", "cancelled"}),
        (OutcomeKind.RELEASED, {"release", "cancelled"}),
    ],
)
def test_an_outcome_ends_its_attempt_in_one_of_these_ways(kind: OutcomeKind, stored: set[str]) -> None:
    assert ends_so(kind) == stored
    assert SAID[kind].closed_as in stored


def test_every_state_has_a_word_and_a_colour_for_people() -> None:
    assert set(LABELS) == set(STYLES) == set(TrialState)
    assert all(LABELS.values())
    assert all(STYLES.values())
    assert all(row.label and row.style for row in ROWS)


@pytest.mark.parametrize("state", list(TrialState))
def test_trials_are_compared_with_all_but_those_that_failed_or_were_cancelled(state: TrialState) -> None:
    assert Curve(state, {}).compares is (state not in (TrialState.FAILED, TrialState.CANCELLED))


@pytest.mark.parametrize("kind", list(OutcomeKind))
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), 1.0])
def test_only_a_complete_outcome_without_a_finite_value_counts_as_another(
    kind: OutcomeKind, value: float | None
) -> None:
    other = kind is OutcomeKind.COMPLETE and value != 1.0
    counts_as = Outcome(kind=kind, reason="over", value=value).counts_as
    assert counts_as is (OutcomeKind.PRUNED if other else kind)
