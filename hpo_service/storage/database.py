"""The database: one transaction per step, one connection per process, one kind of outage."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from hpo_service.errors import UsageError
from hpo_service.storage.outage import translated
from hpo_service.storage.sql.clock import Now

Dialect = Literal["sqlite", "postgresql"]

DRIVERS: dict[str, str] = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
"""What a URL may start with, and the driver that is used for it."""

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


class Database:
    """A database by URL: `sqlite:///path` or `postgresql://user@host/name`. Opens nothing before it is needed.

    On PostgreSQL a process holds at most `connections` connections: more than one is for threads side by side.

    Raises:
        UsageError: the URL cannot be read or names another kind of database.
    """

    def __init__(self, url: str, *, connections: int = 1) -> None:
        parsed = _parse(url)
        self.dialect: Dialect = "sqlite" if parsed.get_backend_name() == "sqlite" else "postgresql"
        self.url = parsed.render_as_string(hide_password=False)
        self.safe_url = _without_secrets(parsed)
        self.session_source = SessionSource(self)
        self._engine = _sqlite(parsed) if self.dialect == "sqlite" else _postgresql(parsed, connections)
        self._current = _Current()
        self._on_rollback: list[Callable[[], object]] = []
        self._process = os.getpid()

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


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "the storage URL cannot be read: write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        raise UsageError(f"the storage URL starts with {parsed.drivername!r}: write sqlite:///FILE or postgresql://...")
    if driver == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UsageError("the storage URL names no file, and memory cannot be shared: write sqlite:///FILE")
    return parsed.set(drivername=driver)


def _without_secrets(url: URL) -> str:
    hidden = {name: "HIDDEN" for name in url.query if "password" in name}
    shown = url.update_query_dict(hidden).render_as_string(hide_password=True)
    return shown.replace("=HIDDEN", "=***")  # asterisks would be written as %2A


def _sqlite(url: URL) -> Engine:
    # the URL's own timeout wins
    engine = create_engine(url, connect_args={} if "timeout" in url.query else {"timeout": BUSY_SECONDS})
    event.listen(engine, "do_connect", _make_folder)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_folder(_dialect: object, _record: object, arguments: Sequence[str], _options: object) -> None:
    Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)


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
