"""The database: one transaction per step, one connection per process, one kind of outage."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, select
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from hpo_service.errors import DatabaseFaultError, SchemaError
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.dialects.outage import translated
from hpo_service.storage.dialects.urls import parsed, prepare_threshold, without_secrets
from hpo_service.storage.values import json_or_text

Dialect = Literal["sqlite", "postgresql"]

BUSY_SECONDS = 60.0
"""How long a SQLite statement waits for another writer."""
POOL_WAIT_SECONDS = 30.0
"""How long a thread waits for the process's connection."""
RECYCLE_SECONDS = 1800.0
"""Age at which a connection is replaced before its next use: firewalls forget silent ones."""
PING_AFTER_SECONDS = 2.0
"""A connection that was idle for longer is tried before it is used, and replaced unnoticed where it broke."""
IDLE_SINCE = "hpo_idle_since"
CONNECT_SECONDS = 10
"""How long reaching a PostgreSQL server may take."""

SERVER_SETTINGS: dict[str, str] = {
    "default_transaction_isolation": r"read\ committed",
    # a holder that is frozen inside a transaction must not hold up the others for longer than this
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "30s",
}
"""PostgreSQL settings of every connection."""

PREPARE = "prepare_threshold"
"""Parameter of a PostgreSQL URL: after how many uses psycopg prepares a statement, or `none`."""

KEEPALIVE: dict[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""How the operating system notices that the other side is gone; seconds, the last in milliseconds."""


class _Current(threading.local):
    """The open transaction of this thread."""

    connection: Connection | None = None
    broken: bool = False


class SessionSource:
    """Hands out SQLAlchemy sessions that take part in the thread's open transaction, where there is one.

    Inside a transaction a session's commit ends a savepoint: its writes stand or fall with the transaction.
    Outside, a session is a transaction of its own. Called like a `scoped_session`, whose place it takes in
    Optuna's storage.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self) -> Session:
        """Return a new session; its user closes it."""
        current = self._database.current
        if current is None:
            return Session(bind=self._database.engine)
        return Session(bind=current, join_transaction_mode="create_savepoint")

    def remove(self) -> None:
        """Do nothing: sessions are closed by whoever asked for them, and none is kept here."""

    def translated_errors(self) -> AbstractContextManager[None]:
        """Turn failures of the database into ours, for reads of Optuna's outside a transaction."""
        return self._database.translated_errors()


class Database:
    """A database by URL: `sqlite:///path` or `postgresql://user@host/name`. Opens nothing before it is needed.

    On PostgreSQL a process holds at most `connections` connections: more than one is for threads side by side.

    Raises:
        UsageError: the URL cannot be read or names another kind of database.
    """

    def __init__(self, url: str, *, connections: int = 1) -> None:
        address = parsed(url)
        self.dialect: Dialect = "sqlite" if address.get_backend_name() == "sqlite" else "postgresql"
        self.url = address.difference_update_query([PREPARE]).render_as_string(hide_password=False)
        self.safe_url = without_secrets(address)
        self.session_source = SessionSource(self)
        self._engine = (
            _sqlite(address, self.safe_url) if self.dialect == "sqlite" else _postgresql(address, connections)
        )
        self._current = _Current()
        self._on_rollback: list[Callable[[], object]] = []
        self._process = os.getpid()

    @property
    def missing(self) -> bool:
        """Whether this is a file of SQLite that is not there; of a server nothing is asked."""
        file = str(self._engine.url.database)
        return self.dialect == "sqlite" and not file.startswith("file:") and not Path(file).exists()

    @property
    def engine(self) -> Engine:
        """The engine; a forked process gets connections of its own, never its parent's."""
        if self._process != os.getpid():
            self._engine.dispose(close=False)
            self._process = os.getpid()
        return self._engine

    @property
    def current(self) -> Connection | None:
        """The connection of this thread's open transaction, or None outside one."""
        return self._current.connection

    @property
    def connection(self) -> Connection:
        """The connection of this thread's open transaction.

        Raises:
            RuntimeError: there is none; the caller forgot `with database.transaction():`.
        """
        if self._current.connection is None:
            raise RuntimeError("no transaction is open on this thread: use `with database.transaction():`")
        return self._current.connection

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[None]:
        """Commit everything inside together at the end, or nothing; a nested one joins the outer one.

        Args:
            read_only: a promise that lets readers of SQLite pass writers; nested ones keep the outer one's.

        Raises:
            DatabaseUnavailableError: the connection or a lock was lost. Where it broke in the commit itself, the
                work may have been committed: whoever repeats it must find that out.
            SchemaError: a table is missing.
            RuntimeError: a nested transaction failed and its error was swallowed: half would be committed.
        """
        if self._current.connection is not None:
            with self._joined():
                yield
            return
        with self.translated_errors():
            try:
                with self._begun(immediate=not read_only):
                    yield
            except BaseException:
                for callback in self._on_rollback:
                    callback()
                raise

    def clock(self) -> float:
        """Return the database's time inside a transaction, in seconds since 1970."""
        return float(self.connection.execute(select(Now())).scalar_one())

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turn failures of the connection into ours, for reads outside a transaction.

        Raises:
            DatabaseUnavailableError: the connection or a lock was lost.
            SchemaError: a table is missing.
        """
        try:
            yield
        except Exception as error:
            expected = translated(error, self.safe_url)
            if expected is None:
                raise
            raise expected from error

    def on_rollback(self, callback: Callable[[], object]) -> None:
        """Have this called after every transaction that failed: caches may hold what never happened."""
        self._on_rollback.append(callback)

    def close_idle(self) -> None:
        """Close the pooled connection if it is free; the next use opens one. For those about to wait long."""
        pool = self.engine.pool
        if isinstance(pool, QueuePool) and pool.checkedin() > 0:
            with self.engine.connect() as connection:
                connection.invalidate()

    def dispose(self) -> None:
        """Close every connection that is not in use."""
        self.engine.dispose()

    @contextmanager
    def _begun(self, *, immediate: bool) -> Iterator[None]:
        with self.engine.connect() as plain:
            connection = plain.execution_options(hpo_immediate=immediate)
            self._current.broken = False
            with connection.begin():
                self._current.connection = connection
                try:
                    yield
                finally:
                    self._current.connection = None
                if self._current.broken:
                    raise RuntimeError("a nested transaction failed, its error was swallowed: rolled back")

    @contextmanager
    def _joined(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._current.broken = True
            raise


def _sqlite(url: URL, safe_url: str) -> Engine:
    # the URL's own timeout wins
    engine = create_engine(
        url,
        connect_args={} if "timeout" in url.query else {"timeout": BUSY_SECONDS},
        json_deserializer=json_or_text,
    )
    file = _SameFile(safe_url)
    event.listen(engine, "do_connect", file.before_connecting)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "begin", file.check)
    return engine


class _SameFile:
    """Sees to it that a process works on one file: where it is removed or replaced, SQLite would write into the void.

    What is committed into a removed file is gone when the last process closes it, and nobody is told.
    """

    def __init__(self, safe_url: str) -> None:
        self._safe_url = safe_url
        self._path: Path | None = None
        self._first: tuple[int, int] | None = None

    def before_connecting(self, _dialect: object, _record: object, arguments: Sequence[str], _options: object) -> None:
        """Refuse a file that is not there, since opening it would make an empty one.

        Raises:
            SchemaError: there is none: the migrations make it, and nobody who only reads.
            DatabaseFaultError: there was one.
        """
        self._path = Path(arguments[0])
        if str(self._path).startswith("file:") or self._path.exists():
            return
        if self._first is not None:
            raise self._gone()
        raise SchemaError(
            f"there is no database at {self._path}: run `hpo-service db upgrade` to make one, "
            "or name the one that is meant with --storage"
        )

    def check(self, _connection: Connection) -> None:
        """Compare the file that has the name now with the one that had it first.

        Raises:
            DatabaseFaultError: it is another one, or there is none.
        """
        if self._path is None or str(self._path).startswith("file:"):
            return
        try:
            found = self._path.stat()
        except OSError as error:
            raise self._gone() from error
        present = (found.st_dev, found.st_ino)
        self._first = self._first or present
        if present != self._first:
            raise self._gone()

    def _gone(self) -> DatabaseFaultError:
        return DatabaseFaultError(
            f"the file of the database {self._safe_url} was removed or replaced while it was in use, so what is "
            "written would be lost: put the old file back, or run the same command again to begin with the new one"
        )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # the driver's own BEGIN comes late and is never IMMEDIATE; savepoints need it out of the way as well
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    # one that reads first and writes later can find the lock gone, and then no wait helps it
    immediate = connection.get_execution_options().get("hpo_immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _postgresql(url: URL, connections: int) -> Engine:
    settings = " ".join(f"-c {name}={value}" for name, value in SERVER_SETTINGS.items())
    given = url.query.get("options", "")
    # the URL's own options come last, and so win
    options = " ".join([settings, *([given] if isinstance(given, str) else given)]).strip()
    defaults = {"application_name": "hpo-service", "connect_timeout": CONNECT_SECONDS, **KEEPALIVE}
    arguments: dict[str, Any] = {name: value for name, value in defaults.items() if name not in url.query}
    if PREPARE in url.query:
        # psycopg wants a number, or None where a pooler hands each transaction to another connection
        arguments[PREPARE] = prepare_threshold(url)
        url = url.difference_update_query([PREPARE])
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_recycle=RECYCLE_SECONDS,
        connect_args={**arguments, "options": options},
    )
    event.listen(engine, "checkin", _note_idle)
    event.listen(engine, "checkout", partial(_replace_broken, engine))
    return engine


def _note_idle(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info[IDLE_SINCE] = time.monotonic()


def _replace_broken(engine: Engine, connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    # the pool's own pre-ping would cost every transaction a round trip
    if time.monotonic() - record.info.get(IDLE_SINCE, math.inf) < PING_AFTER_SECONDS:
        return
    try:
        engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error as error:
        raise DisconnectionError("the connection broke while it was idle") from error
