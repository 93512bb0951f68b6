"""What keeps a worker from working on a machine, and what is only said."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo_service.errors import DatabaseUnavailableError, HpoServiceError, UnfitWorkerError
from hpo_service.service.machine import clock_difference, file_system, require_fit, try_folder, try_shared_folder
from hpo_service.storage.database import Database


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    opened = Database(sqlite_url)
    yield opened
    opened.dispose()


def test_a_folder_is_tried_as_it_is_used_and_left_as_it_was(tmp_path: Path) -> None:
    assert try_folder(tmp_path / "new" / "folder") > 0
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(HpoServiceError, match=r"/out cannot be written .*--output"):
        try_folder(tmp_path / "out")


@pytest.mark.parametrize("call", ["write", "replace"])
def test_a_disk_that_is_full_or_does_not_rename_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "write":
        monkeypatch.setattr(os, "write", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(HpoServiceError, match="No space left on device"):
        try_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds, words", [(3600.0, "3600 s ahead of"), (-120.0, "120 s behind")])
def test_a_clock_that_differs_is_said_with_what_it_means(database: Database, seconds: float, words: str) -> None:
    with database.transaction(read_only=True):
        right = database.clock()
    said = clock_difference(database, lambda: right + seconds)
    assert words in said
    assert "NTP" in said
    assert clock_difference(database) == ""


def test_a_machine_without_the_trainer_runs_objectives_only(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else real(name))
    require_fit(database, tmp_path, trains=False)
    with pytest.raises(UnfitWorkerError, match=r"peft not installed.*pip install"):
        require_fit(database, tmp_path, trains=True)


def test_what_only_some_trials_need_keeps_nobody_from_working(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else real(name))
    require_fit(database, tmp_path, trains=True)


def test_a_clock_that_differs_keeps_nobody_from_working(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hpo_service.service.machine.CLOCK_SECONDS", -1.0)
    caplog.set_level(logging.WARNING)
    require_fit(database, tmp_path, trains=False)
    assert "this machine's clock" in caplog.text


def test_a_database_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    away = Database(f"sqlite:///{tmp_path / 'study.db'}")
    (tmp_path / "study.db").mkdir()
    with pytest.raises(DatabaseUnavailableError):
        require_fit(away, tmp_path, trains=False)
    away.dispose()


def test_a_shared_folder_replaces_files_and_renames_folders_whole_and_is_left_as_it_was(tmp_path):
    assert try_shared_folder(tmp_path) == file_system(tmp_path) != ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_rename_is_an_error_with_its_name(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(HpoServiceError, match=rf"{tmp_path} cannot rename \(Operation not supported\); name a folder"):
        try_shared_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_says_which_libraries_nobody_tested(tmp_path, monkeypatch, caplog, database):
    monkeypatch.setattr("hpo_service.service.machine.untested", lambda: ["peft 0.30 is newer"])
    require_fit(database, tmp_path, trains=False)
    assert "peft 0.30 is newer" in caplog.text
