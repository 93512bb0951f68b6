"""Databases with Optuna's tables in them, and a study to play with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import pytest

from hpo_service.search.policy import SearchPolicy
from hpo_service.search.studies import OptunaStudies
from hpo_service.storage.database import Database


class UndoneError(Exception):
    """Raised at the end of a transaction that is to be rolled back."""


@pytest.fixture
def undone() -> Callable[[Database], AbstractContextManager[None]]:
    """Return a transaction that is rolled back in the end."""

    @contextmanager
    def undone(database: Database) -> Iterator[None]:
        with suppress(UndoneError), database.transaction():
            yield
            raise UndoneError

    return undone


@pytest.fixture
def database(migrated_sqlite: str) -> Iterator[Database]:
    """A SQLite database with Optuna's tables."""
    database = Database(migrated_sqlite)
    yield database
    database.dispose()


@pytest.fixture
def studies(database: Database) -> OptunaStudies:
    """Optuna's side of that database, with the empty study `s/search`."""
    studies = OptunaStudies(database.url, database.session_source)
    with database.transaction():
        studies.create("s/search", "minimize")
    return studies


@pytest.fixture
def policy(database: Database, studies: OptunaStudies) -> SearchPolicy:
    """Samplers and pruners over that database, in which the study is there."""
    assert studies.exists("s/search")
    return SearchPolicy(database.url, database.session_source)


@pytest.fixture
def either_database(migrated_url: str) -> Iterator[Database]:
    """A database of each kind with Optuna's tables."""
    database = Database(migrated_url)
    yield database
    database.dispose()


@pytest.fixture
def either_studies(either_database: Database) -> OptunaStudies:
    """Optuna's side of it, with the empty study `s/search`."""
    studies = OptunaStudies(either_database.url, either_database.session_source)
    with either_database.transaction():
        studies.create("s/search", "minimize")
    return studies
