"""What a failure of the driver means: the database is away, cannot work, lacks tables, or refuses one thing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hpo_service.errors import (
    DatabaseFaultError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    HpoServiceError,
    SchemaError,
)


@dataclass(frozen=True)
class _Meaning:
    """What some failures of the drivers mean.

    Attributes:
        error: what is raised instead.
        codes: beginnings of PostgreSQL's codes (SQLSTATE).
        words: beginnings of what SQLite says.
        sentence: around the database's URL and the driver's words, with the remedy.
    """

    error: Callable[[str], HpoServiceError]
    codes: tuple[str, ...]
    words: tuple[str, ...]
    sentence: str


AWAY = _Meaning(
    DatabaseUnavailableError,
    (
        *("08", "28", "3D000", "57P0", "25P03"),  # connections that were lost or refused, a server that goes down
        *("40001", "40P01", "55P03", "53300"),  # lost races, locks, a server that has no connection left
        *("42501", "25006"),  # no privileges, a server that only reads: a standby that is about to take over
    ),
    (
        *("database is locked", "database table is locked", "database schema is locked", "locking protocol"),
        # a folder that vanished and a disk that does not answer may be a file system that is mounted again
        *("unable to open database file", "disk I/O error"),
    ),
    "the database {url} is not available ({said}): check that it runs and that this machine reaches it, then try again",
)
MEANINGS = (
    _Meaning(
        SchemaError,
        ("42P01", "42703"),
        ("no such table", "no such column"),
        "the database {url} has no tables of this version ({said}): run `hpo-service db upgrade`",
    ),
    AWAY,
    _Meaning(
        DatabaseFaultError,
        ("XX001", "XX002"),
        ("database disk image is malformed", "file is not a database", "malformed database schema"),
        "the database {url} is damaged or none ({said}): name another one, or restore a backup, then start again",
    ),
    _Meaning(
        DatabaseFaultError,
        ("53100",),
        ("database or disk is full",),
        "the database {url} has no room left ({said}): free some space on its disk, then start again",
    ),
    _Meaning(
        DatabaseFaultError,
        ("58",),
        ("attempt to write a readonly database",),
        "the database {url} cannot be written ({said}): see to its disk and to who may write there, then start again",
    ),
    _Meaning(
        DatabaseRefusedError,
        ("23503",),
        ("FOREIGN KEY constraint failed",),
        "the database {url} refused a row about something that is gone ({said}): it was deleted meanwhile, ask again",
    ),
    _Meaning(
        DatabaseRefusedError,
        ("22", "54"),
        ("string or blob too big", "too many SQL variables", "PostgreSQL text fields cannot contain NUL"),
        "the database {url} cannot hold what it was given ({said}): use shorter texts or fewer parameters",
    ),
)
"""Meanings of failures; the first that fits stands. What none fits is a mistake of this package's own."""


def translated(error: BaseException, safe_url: str) -> HpoServiceError | None:
    """Return the error to raise instead, or None where `error` has nothing to do with the database's state.

    Libraries wrap what the driver raised (Optuna in StorageInternalError): the chain of causes is searched.
    """
    if isinstance(error, HpoServiceError):
        return None
    for cause in _causes(error):
        meaning = _meaning(cause)
        if meaning is not None:
            return meaning.error(meaning.sentence.format(url=safe_url, said=_first_line(cause)))
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def _meaning(error: BaseException) -> _Meaning | None:
    # a transaction whose connection broke a moment ago, or a pool that nobody gave a connection back to
    if isinstance(error, PendingRollbackError | PoolTimeoutError):
        return AWAY
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return AWAY
        return _listed(error.orig) or (AWAY if _lost(error) else None)
    # what SQLite's driver raises where SQLAlchemy stands aside
    return _listed(error) if isinstance(error, sqlite3.Error) else None


def _listed(driver: BaseException | None) -> _Meaning | None:
    code, said = getattr(driver, "sqlstate", None), str(driver)
    if code is None:
        return next((meaning for meaning in MEANINGS if said.startswith(meaning.words)), None)
    return next((meaning for meaning in MEANINGS if code.startswith(meaning.codes)), None)


def _lost(error: DBAPIError) -> bool:
    """Whether a failure without a code came from no server at all: PostgreSQL's driver could not reach it."""
    coded = isinstance(error.orig, sqlite3.Error) or getattr(error.orig, "sqlstate", None) is not None
    return isinstance(error, OperationalError | InterfaceError) and not coded


def _first_line(error: BaseException) -> str:
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0].rstrip(".")
