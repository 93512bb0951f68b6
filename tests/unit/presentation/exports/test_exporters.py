"""The table of exports: every row writes what it says, when it says."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from hpo_service.cli import app
from hpo_service.presentation.exports.exporters import EXPORTERS, Exporter, Written, export, exporters
from hpo_service.service.studies.reader import MeasuredStudy
from tests.unit.presentation import story


class Reader:
    """Stands in for what reads the database."""

    def evidence(self, snapshot):
        return story.found(snapshot)

    def attempts(self, study):
        return []

    def scores(self, trial_id, split):
        return None


@pytest.fixture
def study():
    return MeasuredStudy(story.snapshot(), Reader())


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_export_writes_files_into_its_folder_and_says_what_they_are(study, tmp_path, name):
    written = export(study, name, tmp_path / "new")
    assert written
    assert all(path.exists() and path.parent == tmp_path / "new" for path in written)
    assert EXPORTERS[name].about


def test_the_export_command_offers_what_is_written_on_request():
    shown = CliRunner().invoke(app, ["study", "export", "--help"]).stdout
    assert f"<{'|'.join(exporters(Written.ON_REQUEST))}>" in shown


def test_every_export_is_written_at_one_occasion():
    assert sorted(name for when in Written for name in exporters(when)) == sorted(EXPORTERS)


def test_what_was_found_is_gathered_once(study):
    assert study.evidence is study.evidence


def test_a_new_export_is_a_row(study, tmp_path, monkeypatch):
    row = Exporter("its name", Written.ON_REQUEST, lambda study, folder: [folder / study.snapshot.name])
    monkeypatch.setitem(EXPORTERS, "name", row)
    assert exporters(Written.ON_REQUEST)[-1] == "name"
    assert export(study, "name", tmp_path) == [tmp_path / "quickstart"]
