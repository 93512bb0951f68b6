"""A study as stored, read as what its file says."""

from __future__ import annotations

import pytest

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import UnreadableStudyError
from hpo_service.storage.studies import StudyRow

SPEC = {"name": "s", "objective": {"python": "m:f"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}


def row(**changes: object) -> StudyRow:
    return StudyRow(1, "s", {**SPEC, **changes}, StudyState.ACTIVE, "created", {}, 0.0, 0.0, None)


def test_the_same_text_is_parsed_once() -> None:
    assert row().specification() is row().specification()


def test_a_study_of_the_same_name_with_another_text_is_another() -> None:
    first, second = row().specification(), row(search={"seed": 7}).specification()
    assert (first.search.seed, second.search.seed) == (42, 7)
    assert row().specification() is first


def test_a_study_that_cannot_be_read_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(UnreadableStudyError, match="study s was made by another version"):
            row(search={"seed": "many"}).specification()
