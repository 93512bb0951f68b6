"""Requests that may be sent twice: what the first was answered, by its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update

from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.dialects.upsert import columns_of, insert_once
from hpo_service.storage.values import plain

_request = schema.idempotent_request.c


@dataclass(frozen=True)
class IdempotentRow:
    """A request that was made under a key; `fingerprint` tells it from another one under the same key."""

    owner_id: str
    key: str
    fingerprint: str
    answer: dict[str, Any]
    created_at: float


class IdempotentRequestStore:
    """Reads and writes `hpo_idempotent_request`. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, owner_id: str, key: str, fingerprint: str) -> IdempotentRow | None:
        """Take a key; where it is taken, return what was done under it. Waits for another who is about to use it."""
        values = {"owner_id": owner_id, "key": key, "fingerprint": fingerprint, "answer": {}, "created_at": Now()}
        statement = insert_once(self._database, schema.idempotent_request, values, unique=["owner_id", "key"])
        if self._database.connection.execute(statement.returning(_request.key)).one_or_none() is not None:
            return None
        found = select(schema.idempotent_request).where(_request.owner_id == owner_id, _request.key == key)
        row = self._database.connection.execute(found).one()
        return IdempotentRow(**columns_of(schema.idempotent_request, row))

    def keep(self, owner_id: str, key: str, answer: dict[str, Any]) -> None:
        """Store what the request under a key was answered."""
        statement = update(schema.idempotent_request).where(_request.owner_id == owner_id, _request.key == key)
        self._database.connection.execute(statement.values(answer=plain(answer)))

    def forget(self, seconds: float) -> None:
        """Remove what is older than that."""
        old = _request.created_at < Now() - seconds
        self._database.connection.execute(delete(schema.idempotent_request).where(old))
