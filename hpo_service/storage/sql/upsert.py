"""Inserts that lose cleanly, and rows read back by table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Table
from sqlalchemy.dialects import postgresql, sqlite

from hpo_service.storage.database import Database


def insert_once(
    database: Database, table: Table, values: Mapping[str, Any], *, unique: Sequence[str]
) -> postgresql.Insert | sqlite.Insert:
    """Build an insert that does nothing where a row with the same `unique` columns exists."""
    return _insert(database, table).values(dict(values)).on_conflict_do_nothing(index_elements=unique)


def insert_or_replace(
    database: Database, table: Table, values: Mapping[str, Any], *, unique: Sequence[str]
) -> postgresql.Insert | sqlite.Insert:
    """Build an insert that overwrites the row with the same `unique` columns where there is one."""
    changed = {name: value for name, value in values.items() if name not in unique}
    statement = _insert(database, table).values(dict(values))
    return statement.on_conflict_do_update(index_elements=unique, set_=changed)


def columns_of(table: Table, row: Row[Any]) -> dict[str, Any]:
    """Return the table's columns out of a row that may hold other tables' as well, by name."""
    return {column.name: row._mapping[column] for column in table.columns}


def _insert(database: Database, table: Table) -> postgresql.Insert | sqlite.Insert:
    return sqlite.insert(table) if database.dialect == "sqlite" else postgresql.insert(table)
