"""What each action means: one row says how a trial ends that obeys, and whether it can be resumed."""

from __future__ import annotations

from typing import get_args

import pytest

from hpo_service.domain.trial.decision import ACTIONS, Action, Decision
from hpo_service.domain.trial.outcome import OutcomeKind


@pytest.mark.parametrize(
    "action, ends_as, saves",
    [
        ("continue", None, False),
        ("prune", OutcomeKind.PRUNED, False),
        ("cancel", OutcomeKind.CANCELLED, False),
        ("release", OutcomeKind.RELEASED, True),
        ("abandon", OutcomeKind.RELEASED, True),
    ],
)
def test_an_action_says_how_a_trial_ends_and_whether_it_saves(
    action: Action, ends_as: OutcomeKind | None, saves: bool
) -> None:
    decision = Decision(action=action, reason="because")
    assert (decision.ends_as, decision.saves) == (ends_as, saves)


def test_every_action_has_a_row() -> None:
    assert set(ACTIONS) == set(get_args(Action))


def test_what_is_saved_is_given_back() -> None:
    assert all(meaning.saves == (meaning.ends_as is OutcomeKind.RELEASED) for meaning in ACTIONS.values())
