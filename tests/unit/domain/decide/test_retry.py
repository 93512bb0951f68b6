"""What is said of a trial that is tried again, and what of that is its cause."""

from __future__ import annotations

import pytest

from hpo_service.domain.decide.retry import PAUSES, SAME_WORKER, cause_of, given_up, tried_again

CAUSE = "the data file is gone: attempt 2 failed (of 3)"


@pytest.mark.parametrize("reason", [CAUSE, tried_again(CAUSE, 2, 1, 3), given_up(CAUSE, 3)])
def test_the_cause_is_found_in_whatever_is_said_of_it(reason: str) -> None:
    assert cause_of(reason) == CAUSE


def test_pauses_grow_and_are_longer_for_the_worker_that_failed() -> None:
    assert list(PAUSES) == sorted(set(PAUSES))
    assert PAUSES[0] <= 2.0
    assert SAME_WORKER > 1
