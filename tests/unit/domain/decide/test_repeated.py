"""When one cause costs trial after trial, and when several trials have failed each for its own."""

from __future__ import annotations

import pytest

from hpo_service.domain.decide.repeated import Failure, repeated, same_for_all


def failures(*reasons: str) -> list[Failure]:
    return [Failure(number, f"w{number % 2}", reason) for number, reason in enumerate(reasons)]


def test_three_trials_that_one_cause_ended_are_a_repetition_in_the_words_of_the_last() -> None:
    found = repeated(
        failures(
            "attempt 2 failed (2 of 3): CUDA error: device 3 is lost",
            "3 attempts failed, the last with: CUDA error: device 0 is lost",
            "CUDA error: device 12 is lost",
        )
    )
    assert found is not None
    assert found.cause == "CUDA error: device 3 is lost"
    assert [failure.trial_id for failure in found.failures] == [0, 1, 2]


def test_other_failures_in_between_do_not_hide_it() -> None:
    found = repeated(failures("no route to hub", "row 7 has no text", "no route to hub", "no route to hub"))
    assert found is not None
    assert [failure.trial_id for failure in found.failures] == [0, 2, 3]


@pytest.mark.parametrize("reasons", [(), ("gone", "gone"), ("loss is NaN", "no such file", "killed")])
def test_fewer_or_different_ones_are_not(reasons: tuple[str, ...]) -> None:
    assert repeated(failures(*reasons)) is None


@pytest.mark.parametrize(
    "one, other",
    [
        (
            "was killed by SIGKILL; its log is /out/logs/worker-a-12-f3a1.log",
            "was killed by SIGKILL; its log is /b.log",
        ),
        ("KeyError: 'x1'", "keyerror: 'x2'"),
        ("printed a line that cannot be read: 0.113", "printed a line that cannot be read: 17"),
    ],
)
def test_what_differs_from_trial_to_trial_does_not_make_another_cause(one: str, other: str) -> None:
    assert same_for_all(one) == same_for_all(other)


def test_different_words_make_another_cause() -> None:
    assert same_for_all("KeyError: 'text'") != same_for_all("KeyError: 'labels'")
