"""What a study comes to is written into its folder and told, whoever asks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import StudyFailedError
from hpo_service.presentation.conclusion import conclude
from hpo_service.presentation.exports.exporters import EXPORTERS, Exporter, Written
from hpo_service.service.studies.reader import MeasuredStudy
from tests.unit.presentation import story


class Reader:
    """Stands in for what reads the database."""

    def __init__(self, snapshot):
        self.snapshot = snapshot

    def measured(self, study):
        return MeasuredStudy(self.snapshot, self)

    def evidence(self, snapshot):
        return story.found(snapshot)


def test_report_and_best_configuration_are_written_and_named_in_the_document(tmp_path):
    concluded = conclude(Reader(story.snapshot()), "quickstart", tmp_path)
    assert concluded.written == {
        "report": tmp_path / "quickstart" / "report.html",
        "best": tmp_path / "quickstart" / "best",
    }
    assert all(path.exists() for path in concluded.written.values())
    document = json.loads(json.dumps(concluded.document(), allow_nan=False))
    assert document["verdict"] == "better"
    assert (document["report"], document["best"]) == tuple(map(str, concluded.written.values()))


def test_a_study_that_failed_has_a_report_and_no_best_configuration(tmp_path):
    failed = replace(story.snapshot(story.search_stage(3)), state=StudyState.FAILED, reason="three trials failed")
    with pytest.raises(StudyFailedError, match=r"failed: three trials failed; .* is in .*report\.html"):
        conclude(Reader(failed), "quickstart", tmp_path)
    assert [entry.name for entry in (tmp_path / "quickstart").iterdir()] == ["report.html"]


def test_an_export_that_is_always_written_needs_only_its_row(tmp_path, monkeypatch):
    def write(study, folder):
        (folder / "card.md").write_text(study.evidence.sentence)
        return [folder / "card.md"]

    monkeypatch.setitem(EXPORTERS, "card", Exporter("a card", Written.ALWAYS, write))
    concluded = conclude(Reader(story.snapshot()), "quickstart", tmp_path)
    assert concluded.document()["card"] == str(tmp_path / "quickstart" / "card.md")
