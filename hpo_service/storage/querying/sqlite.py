"""Questions to SQLite: a connection that only reads, with an authorizer that allows reading and nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from hpo_service.errors import DatabaseUnavailableError, HpoServiceError, UsageError
from hpo_service.storage.database import BUSY_SECONDS, Database
from hpo_service.storage.querying.answer import AT_ONCE, Answer, Value, distinct, plain_row
from hpo_service.storage.querying.text import REMEDY

READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
"""What a question may make SQLite do."""
REFUSED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer"})
LARGEST_VALUE = 64_000_000
"""Bytes of one value: a function that makes larger ones would take the machine's memory."""
STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock."""


@contextmanager
def ask_sqlite(database: Database, question: str, seconds: float) -> Iterator[Answer]:
    """Run a question; its connection is open as long as the context is.

    Raises:
        UsageError: it is refused, wrong, or takes longer than so many seconds until its next rows.
        DatabaseUnavailableError: the file cannot be read.
    """
    file = Path(str(database.engine.url.database)).absolute()
    if not file.is_file():
        raise DatabaseUnavailableError(f"the database {database.safe_url} does not exist: name another (--storage)")
    clock = _Clock(seconds)
    with _translated(database, clock), closing(_connect(file)) as connection:
        connection.set_progress_handler(clock.is_over, STEPS)
        clock.start()
        cursor = connection.execute(question)
        columns = distinct(column[0] for column in cursor.description or ())
        yield Answer(columns, _rows(cursor, clock))


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=BUSY_SECONDS)
    connection.isolation_level = None
    connection.execute("PRAGMA query_only = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    connection.set_authorizer(_allow)
    return connection


def _allow(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    name = (second or first or "").lower()
    allowed = action in READS and not (action == sqlite3.SQLITE_FUNCTION and name in REFUSED_FUNCTIONS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


class _Clock:
    """Ends a question whose next rows take too long."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.over = seconds, False
        self.start()

    def start(self) -> None:
        self._end = time.monotonic() + self.seconds

    def is_over(self) -> bool:
        self.over = time.monotonic() > self._end
        return self.over


def _rows(cursor: sqlite3.Cursor, clock: _Clock) -> Iterator[tuple[Value, ...]]:
    clock.start()
    while some := cursor.fetchmany(AT_ONCE):
        yield from map(plain_row, some)
        clock.start()


@contextmanager
def _translated(database: Database, clock: _Clock) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _refusal(error, database, lambda: clock.over) from error


def _refusal(error: Exception, database: Database, too_long: Callable[[], bool]) -> HpoServiceError:
    said = " ".join(str(error).split())
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_INTERRUPT and too_long():
        return UsageError("the query takes too long: ask for less, or give it more time (--timeout)")
    if code == sqlite3.SQLITE_AUTH or "not authorized" in said or "prohibited" in said:
        return UsageError(f"a query only reads, and this one would do more ({said}): {REMEDY}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB):
        return DatabaseUnavailableError(f"the database {database.safe_url} is not available ({said}): try again")
    return UsageError(f"SQLite refuses the query: {said}; {REMEDY}")
