"""What is promised of versions is what the tests are run with: ranges, both lists of versions and the table agree."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hpo_service.service.versions import TESTED

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGES = [Requirement(line) for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["train"]]]
UNTESTED_FLOORS = {"torch"}
"""Whose floor is read from its documented interface: the tests run with one release alone."""


def pins(file: str) -> dict[str, Version]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return {
        canonicalize_name(r.name): Version(next(iter(r.specifier)).version)
        for r in map(Requirement, filter(None, lines))
    }


@pytest.mark.parametrize("wanted", RANGES, ids=lambda requirement: requirement.name)
def test_the_tests_are_run_with_the_floor_of_each_range_and_with_the_newest_version(wanted):
    name = canonicalize_name(wanted.name)
    oldest, newest = pins("constraints-oldest.txt")[name], pins("constraints.txt")[name]
    (floor,) = [Version(each.version) for each in wanted.specifier if each.operator == ">="]
    assert {oldest, newest} <= set(wanted.specifier.filter([oldest, newest]))
    assert name in UNTESTED_FLOORS or oldest.release[:2] == (*floor.release, 0)[:2]


@pytest.mark.parametrize("name", TESTED)
def test_the_table_that_doctor_and_workers_read_has_the_same_versions(name):
    oldest, newest = TESTED[name]
    assert (pins("constraints-oldest.txt")[name], pins("constraints.txt")[name]) == (Version(oldest), Version(newest))


@pytest.mark.parametrize("wanted", RANGES, ids=lambda requirement: requirement.name)
def test_each_floor_has_its_reason(wanted):
    floors = (ROOT / "docs/dependencies.md").read_text().split("## Floors")[1]
    assert f"| {wanted.name} |" in floors
