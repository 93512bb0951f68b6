"""Which failures mean that the database is away."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hpo_service.errors import DatabaseUnavailableError, HpoServiceError, SchemaError

MISSING_TABLE = frozenset({"42P01", "42703"})
"""PostgreSQL's codes for a table or column that does not exist."""
REFUSED = frozenset({"42501", "25006"})
"""PostgreSQL's codes for missing privileges and for a server that only reads (a standby)."""


def translated(error: BaseException, safe_url: str) -> HpoServiceError | None:
    """Return the error to raise instead, or None where `error` has nothing to do with the connection.

    Libraries wrap what the driver raised (Optuna in StorageInternalError): the chain of causes is searched.
    """
    if isinstance(error, HpoServiceError):
        return None
    for cause in _causes(error):
        if isinstance(cause, DBAPIError) and _table_is_missing(cause):
            return SchemaError(
                f"the database {safe_url} has no tables of this version ({_first_line(cause)}): "
                "run `hpo-service db upgrade`"
            )
        if _is_outage(cause):
            return DatabaseUnavailableError(
                f"the database {safe_url} is not available ({_first_line(cause)}): "
                "check that it runs and that this machine reaches it, then try again"
            )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, DBAPIError):
        return (
            error.connection_invalidated
            or isinstance(error, OperationalError | InterfaceError)
            # sqlite3 raises the base class itself for a damaged or foreign file
            or type(error) is DatabaseError
            or getattr(error.orig, "sqlstate", None) in REFUSED
        )
    # a transaction whose connection broke a moment ago, a pool that nobody gave a connection back to, and what SQLite's
    # driver raises where SQLAlchemy stands aside
    return isinstance(error, PendingRollbackError | PoolTimeoutError | sqlite3.OperationalError)


def _table_is_missing(error: DBAPIError) -> bool:
    if getattr(error.orig, "sqlstate", None) in MISSING_TABLE:
        return True
    return str(error.orig).startswith(("no such table", "no such column"))


def _first_line(error: BaseException) -> str:
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0].rstrip(".")
