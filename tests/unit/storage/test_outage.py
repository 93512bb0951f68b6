"""Which errors mean that the database is away."""

from __future__ import annotations

import pytest
from sqlalchemy import exc

from hpo_service.errors import ConflictError, DatabaseUnavailableError, SchemaError
from hpo_service.storage.outage import translated


class DriverError(Exception):
    """What a driver raises; PostgreSQL's carry a code."""

    def __init__(self, message: str = "gone", sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def wrapped(kind, message="gone", sqlstate=None, **more):
    return kind("SELECT 1", {}, DriverError(message, sqlstate), **more)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(exc.OperationalError),
        wrapped(exc.InterfaceError),
        wrapped(exc.DatabaseError, "file is not a database"),
        wrapped(exc.InternalError, connection_invalidated=True),
        wrapped(exc.ProgrammingError, sqlstate="42501"),
        wrapped(exc.InternalError, sqlstate="25006"),
        exc.TimeoutError("QueuePool limit"),
        exc.PendingRollbackError("Can't reconnect until invalid transaction is rolled back"),
    ],
)
def test_a_broken_connection_means_that_the_database_is_unavailable(error):
    found = translated(error, "postgresql://***@host/name")
    assert isinstance(found, DatabaseUnavailableError)
    assert "postgresql://***@host/name" in str(found)
    assert "try again" in str(found)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(exc.OperationalError, "no such table: hpo_study"),
        wrapped(exc.OperationalError, "no such column: hpo_study.mood"),
        wrapped(exc.ProgrammingError, sqlstate="42P01"),
        wrapped(exc.ProgrammingError, sqlstate="42703"),
    ],
)
def test_a_missing_table_is_a_question_of_the_schema(error):
    assert isinstance(translated(error, "url"), SchemaError)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a mistake"),
        wrapped(exc.IntegrityError, "UNIQUE constraint failed"),
        wrapped(exc.ProgrammingError, "syntax error", sqlstate="42601"),
        ConflictError("ours"),
        DatabaseUnavailableError("ours already"),
    ],
)
def test_other_errors_stay_what_they_are(error):
    assert translated(error, "url") is None


def test_the_cause_behind_another_librarys_error_is_found():
    error = RuntimeError("a library's own words")
    error.__cause__ = ValueError("more words")
    error.__cause__.__cause__ = wrapped(exc.OperationalError)
    assert isinstance(translated(error, "url"), DatabaseUnavailableError)


def test_our_own_errors_are_kept_even_where_the_driver_caused_them():
    error = ConflictError("the name is taken")
    error.__cause__ = wrapped(exc.OperationalError)
    assert translated(error, "url") is None


def test_causes_that_go_round_in_circles_end():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert translated(first, "url") is None


def test_the_message_is_one_line_of_what_the_driver_said():
    said = "server closed the connection unexpectedly\n\tThis probably means the server terminated"
    assert "\n" not in str(translated(wrapped(exc.OperationalError, said), "url"))
    assert "DriverError" not in str(translated(wrapped(exc.OperationalError, said), "url"))
    assert "OperationalError" in str(translated(wrapped(exc.OperationalError, ""), "url"))
