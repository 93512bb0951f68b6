"""Which installed libraries the tests were not run with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from hpo_service.service.versions import TESTED, untested

RANGE = {"peft": ("0.19.0", "0.21.2")}


def told(here: str | None, tested=RANGE) -> list[str]:
    def installed(name: str) -> str:
        if here is None:
            raise PackageNotFoundError(name)
        return here

    return untested(installed, tested)


@pytest.mark.parametrize("here", ["0.19.0", "0.20.1", "0.21.2", "0.21.9", None])
def test_versions_inside_the_range_patches_of_the_newest_and_what_is_missing_are_not_told(here):
    assert told(here) == []


def test_an_older_one_is_told_with_the_range():
    assert told("0.18.1") == ["peft 0.18.1 is older than what this version was tested with (0.19.0 to 0.21.2)"]


def test_a_newer_one_is_told_with_the_one_release_that_was_tested():
    lines = told("2.15.0+cu130", {"torch": ("2.13.0", "2.13.0")})
    assert lines == ["torch 2.15.0+cu130 is newer than what this version was tested with (2.13.0)"]


def test_what_these_tests_run_with_counts_as_tested():
    assert untested() == []
    assert {"optuna", "torch", "transformers", "peft"} <= TESTED.keys()
