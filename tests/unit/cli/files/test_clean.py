"""`clean`: what it lists, what it removes, and what it says to machines."""

from __future__ import annotations

import json

import pytest

from hpo_service import cli
from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.settings import Settings
from hpo_service.wire.attempt_folder import AttemptFolder


@pytest.fixture
def left(migrated_sqlite, tmp_path, monkeypatch):
    """The checkpoint of a trial that has ended, of which the worker died before it could remove it."""
    monkeypatch.setenv("HPO_SERVICE_STORAGE", migrated_sqlite)
    monkeypatch.setenv("HPO_SERVICE_OUTPUT", str(tmp_path / "out"))
    monkeypatch.delenv("HPO_SERVICE_STORE", raising=False)
    service = Service(Settings(storage=migrated_sqlite, output=tmp_path / "out", cache=tmp_path))
    spec = {
        "name": "mine",
        "objective": {"python": "nobody:calls_it"},
        "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
    }
    service.studies.create(StudySpec.model_validate(spec))
    with service.db.transaction():
        service.worker_rows.register("w", "host", 1, "0", "cpu")
    trial = service.queue.claim("w")
    service.queue.finish(trial.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=1.0))
    folder = AttemptFolder.of(tmp_path / "out", trial).checkpoint
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 2_000_000)
    service.db.dispose()
    return folder


def clean(*options):
    """Run the command; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["clean", "--study", "mine", *options])
    return ended.value.code


def test_a_dry_run_lists_and_leaves(left, capsys):
    assert clean("--dry-run") == 0
    line, total = capsys.readouterr().out.splitlines()
    assert line.split() == ["2.0", "MB", str(left), "(checkpoint:", "the", "trial", "is", "complete)"]
    assert total == "2.0 MB would be freed"
    assert left.exists()


def test_what_was_listed_is_removed_and_then_there_is_nothing(left, capsys):
    assert clean() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2.0 MB were freed"
    assert not left.exists()
    assert clean() == 0
    assert capsys.readouterr().out == "nothing to remove\n"


def test_machines_get_the_same_as_json(left, capsys):
    assert clean("--dry-run", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["removed"], said["bytes"], said["found"][0]["where"]) == (False, 2_000_000, str(left))


def test_a_store_that_does_not_answer_is_one_line(left, capsys, monkeypatch):
    monkeypatch.setenv("HPO_SERVICE_STORE", "nosuch://bucket")
    assert clean() == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: nosuch://bucket: mine/trials cannot be listed")
    assert left.exists()
