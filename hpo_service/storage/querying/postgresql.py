"""Questions to PostgreSQL: a transaction that only reads, a cursor that takes questions alone, no volatile function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from hpo_service.errors import DatabaseUnavailableError, HpoServiceError, UsageError
from hpo_service.storage.database import Database
from hpo_service.storage.querying.answer import AT_ONCE, Answer, Value, distinct, plain_row
from hpo_service.storage.querying.text import REMEDY, called

HARMLESS = frozenset({"clock_timestamp", "gen_random_uuid", "random", "random_normal", "timeofday"})
"""Functions that PostgreSQL calls volatile because their value changes, not because they change anything."""
VOLATILE = "SELECT DISTINCT proname FROM pg_catalog.pg_proc WHERE proname = ANY(%s) AND provolatile = 'v'"
IDLE_SECONDS = 900
"""How long whoever reads an answer may pause between its rows."""
TOO_LONG = "57014"


@contextmanager
def ask_postgresql(database: Database, question: str, seconds: float) -> Iterator[Answer]:
    """Run a question; its transaction is open as long as the context is.

    Raises:
        UsageError: it is refused, wrong, or takes longer than so many seconds until its next rows.
        DatabaseUnavailableError: the server cannot be reached.
    """
    with database.translated_errors():
        pooled = database.engine.raw_connection()
    try:
        connection = pooled.driver_connection
        assert isinstance(connection, psycopg.Connection)
        with _translated(database):
            _only_read(connection, seconds)
            _refuse_volatile(connection, question)
            # the cursor's declaration is one statement by the protocol, and takes SELECT and VALUES alone
            with connection.cursor(name="hpo_query") as cursor:
                cursor.itersize = AT_ONCE
                cursor.execute(question.encode())
                columns = distinct(column.name for column in cursor.description or ())
                yield Answer(columns, _rows(cursor))
    finally:
        # settings and locks of the session go with the connection
        pooled.invalidate()


def _only_read(connection: psycopg.Connection[Any], seconds: float) -> None:
    for setting in (
        "SET TRANSACTION READ ONLY",
        f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}",
        f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_SECONDS * 1000}",
        "SET LOCAL standard_conforming_strings = on",
        "SET LOCAL TimeZone = 'UTC'",
    ):
        connection.execute(setting.encode())


def _refuse_volatile(connection: psycopg.Connection[Any], question: str) -> None:
    found = connection.execute(VOLATILE, (sorted(called(question) - HARMLESS),)).fetchall()
    if found:
        names = ", ".join(sorted(name for (name,) in found))
        raise UsageError(f"the query calls {names}, which may do more than read: {REMEDY}")


def _rows(cursor: psycopg.ServerCursor[Any]) -> Iterator[tuple[Value, ...]]:
    yield from map(plain_row, cursor)


@contextmanager
def _translated(database: Database) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _refusal(error, database) from error


def _refusal(error: psycopg.Error, database: Database) -> HpoServiceError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if error.sqlstate == TOO_LONG:
        return UsageError("the query takes too long: ask for less, or give it more time (--timeout)")
    if error.sqlstate is None or error.sqlstate[:2] in ("08", "57"):
        return DatabaseUnavailableError(f"the database {database.safe_url} is not available ({said}): try again")
    return UsageError(f"PostgreSQL refuses the query: {said}; {REMEDY}")
