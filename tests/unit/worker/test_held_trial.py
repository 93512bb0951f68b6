"""What a worker remembers of a trial, and how it ends where its child cannot say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.decision import Action, Decision
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.worker.held_trial import HeldTrial

Trial = Callable[..., Assignment]


@pytest.fixture
def hold(tmp_path: Path, trial: Trial) -> Callable[..., HeldTrial]:
    """Makes a held trial, with an order to stop where one is given."""

    def hold(action: Action | None = None, reason: str = "because", **state: float) -> HeldTrial:
        order = None if action is None else Decision(action=action, reason=reason)
        given = trial(7, attempt=2)
        return HeldTrial(given, AttemptFolder.of(tmp_path, given), 0.0, order=order, **state)

    return hold


Hold = Callable[..., HeldTrial]


def test_the_key_names_study_trial_and_attempt(hold: Hold) -> None:
    assert hold().key == "s/search-0007/2"


@pytest.mark.parametrize(
    "action, kind",
    [
        ("prune", OutcomeKind.PRUNED),
        ("cancel", OutcomeKind.CANCELLED),
        ("release", OutcomeKind.RELEASED),
        ("abandon", OutcomeKind.RELEASED),
    ],
)
def test_a_trial_whose_child_breaks_while_it_stops_has_the_end_it_was_asked_for(
    hold: Hold, action: Action, kind: OutcomeKind
) -> None:
    outcome = hold(action, last_value=2.5).broken_off(OutcomeKind.ERROR, "the child ended")
    assert (outcome.kind, outcome.reason, outcome.value) == (kind, "because (the child ended)", 2.5)


def test_a_reason_that_says_why_it_was_asked_is_not_told_twice(hold: Hold) -> None:
    held = hold("release", "the worker leaves")
    outcome = held.broken_off(OutcomeKind.RELEASED, "the worker leaves; aborted before it could save")
    assert outcome.reason == "the worker leaves; aborted before it could save"


def test_an_end_that_nobody_asked_for_is_left_as_it_is(hold: Hold) -> None:
    outcome = hold().broken_off(OutcomeKind.ERROR, "out of memory", retryable=False)
    assert outcome == Outcome(kind=OutcomeKind.ERROR, reason="out of memory", retryable=False)
