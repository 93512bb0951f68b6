"""Which errors mean that the database is away."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import exc

from hpo_service.errors import (
    ConflictError,
    DatabaseFaultError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    SchemaError,
)
from hpo_service.storage.dialects.outage import translated


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
        wrapped(exc.InternalError, connection_invalidated=True),
        wrapped(exc.ProgrammingError, sqlstate="42501"),
        wrapped(exc.InternalError, sqlstate="25006"),
        *(wrapped(exc.OperationalError, sqlstate=code) for code in ("08006", "57P01", "40001", "40P01", "55P03")),
        wrapped(exc.OperationalError, sqlstate="53300"),
        wrapped(exc.OperationalError, "database is locked"),
        wrapped(exc.OperationalError, "unable to open database file"),
        sqlite3.OperationalError("database table is locked: hpo_trial"),
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
    "error, remedy",
    [
        (wrapped(exc.DatabaseError, "database disk image is malformed"), "restore a backup"),
        (wrapped(exc.DatabaseError, "file is not a database"), "name another one"),
        (sqlite3.DatabaseError("database disk image is malformed"), "restore a backup"),
        (wrapped(exc.OperationalError, "database or disk is full"), "free some space"),
        (wrapped(exc.OperationalError, "could not extend file", "53100"), "free some space"),
        (wrapped(exc.OperationalError, "attempt to write a readonly database"), "who may write there"),
        (wrapped(exc.OperationalError, "could not read block", "58030"), "see to its disk"),
        (wrapped(exc.InternalError, "invalid page in block", "XX001"), "restore a backup"),
    ],
)
def test_a_database_that_cannot_work_any_more_is_no_outage_that_ends(error, remedy):
    found = translated(error, "url")
    assert isinstance(found, DatabaseFaultError)
    assert remedy in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(exc.OperationalError, "index row size 2800 exceeds btree version 4 maximum 2704", "54000"),
        wrapped(exc.DataError, "value too long for type character varying(512)", "22001"),
        wrapped(exc.DataError, "invalid byte sequence for encoding UTF8: 0x00", "22021"),
        wrapped(exc.IntegrityError, "violates foreign key constraint", "23503"),
        wrapped(exc.IntegrityError, "FOREIGN KEY constraint failed"),
        wrapped(exc.DataError, "string or blob too big"),
    ],
)
def test_what_the_database_will_not_hold_is_refused_at_once(error):
    assert isinstance(translated(error, "url"), DatabaseRefusedError)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a mistake"),
        wrapped(exc.OperationalError, sqlstate="57014"),
        exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError("no such function: sin")),
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
