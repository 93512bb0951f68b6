"""A SQLite file that is removed or replaced under a process is an error: what it writes would be lost in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from hpo_service.errors import DatabaseFaultError
from hpo_service.storage import schema
from hpo_service.storage.database import Database


@pytest.fixture
def file(migrated_sqlite: str) -> Path:
    return Path(migrated_sqlite.removeprefix("sqlite:///"))


@pytest.fixture
def database(migrated_sqlite: str) -> Iterator[Database]:
    database = Database(migrated_sqlite)
    yield database
    database.dispose()


def read(database: Database) -> list[object]:
    with database.transaction(read_only=True):
        return list(database.connection.scalars(select(schema.study.c.name)))


def unlinked(file: Path) -> None:
    file.unlink()


def moved(file: Path) -> None:
    file.rename(file.with_name("moved.db"))


def replaced(file: Path) -> None:
    copy = file.with_name("copy.db")
    shutil.copy(file, copy)
    copy.replace(file)


def without_its_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


@pytest.mark.parametrize("what", [unlinked, moved, replaced, without_its_folder])
@pytest.mark.parametrize("anew", [False, True], ids=["same connection", "new connection"])
def test_it_is_noticed_at_the_next_step(
    database: Database, file: Path, what: Callable[[Path], None], anew: bool, tmp_path: Path
) -> None:
    assert read(database) == []
    what(file)
    if anew:
        database.dispose()
    for attempt in (read, read):
        with pytest.raises(DatabaseFaultError, match="was removed or replaced while it was in use"):
            attempt(database)
    assert what is replaced or not file.exists(), "opening it again would have made an empty one"


def test_a_file_that_was_put_back_is_worked_on(database: Database, file: Path) -> None:
    read(database)
    aside = file.with_name("aside.db")
    file.rename(aside)
    with pytest.raises(DatabaseFaultError):
        read(database)
    aside.rename(file)
    assert read(database) == []


def test_a_process_that_starts_later_works_on_the_file_that_is_there(file: Path, migrated_sqlite: str) -> None:
    replaced(file)
    later = Database(migrated_sqlite)
    assert read(later) == []
    later.dispose()
