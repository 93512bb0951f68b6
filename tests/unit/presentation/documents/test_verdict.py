"""What a study found, as plain data."""

from __future__ import annotations

import json

import pytest

from hpo_service.presentation.documents.verdict import verdict_document
from tests.unit.presentation import story


def test_the_verdict_as_data_has_everything_a_script_needs() -> None:
    snapshot = story.snapshot()
    data = json.loads(json.dumps(verdict_document(snapshot, story.found(snapshot)), allow_nan=False))
    assert data["verdict"] == "better"
    assert data["comparison"]["low"] < data["comparison"]["improvement"] < data["comparison"]["high"]
    assert data["recommended"] == "winner 1"
    assert data["exported"]["seed"] == 1042
    assert data["trials"]["search"] == {"complete": 10, "pruned": 4, "infeasible": 1, "failed": 1}
    assert [side["label"] for side in data["configurations"]] == ["winner 1", "default"]
    assert data["configurations"][1]["test"] == pytest.approx(data["comparison"]["baseline"])


def test_data_about_nothing_is_still_json() -> None:
    snapshot = story.snapshot(story.search_stage(0))
    data = json.loads(json.dumps(verdict_document(snapshot, story.found(snapshot)), allow_nan=False))
    assert (data["comparison"], data["exported"], data["recommended"]) == (None, None, None)


def test_what_the_comparison_could_see_is_data_too() -> None:
    snapshot = story.snapshot()
    evidence = story.found(snapshot)
    comparison = verdict_document(snapshot, evidence)["comparison"]
    assert comparison["smallest_seen"] == evidence.comparison.smallest > 0
    assert comparison["seeds_to_see"] == evidence.comparison.seeds_to_see
    assert comparison["spread"]["seeds"] == 3
