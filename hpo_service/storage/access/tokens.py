"""Who may ask the server: access tokens, browsers' sessions and one-time login links, kept as hashes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from sqlalchemy import Row, Update, and_, delete, insert, literal, or_, select, update

from hpo_service.domain.access import Role
from hpo_service.domain.study.spelling import did_you_mean
from hpo_service.errors import NotFoundError
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now, earlier
from hpo_service.storage.dialects.upsert import columns_of

_token = schema.access_token.c


class AccessKind(StrEnum):
    """What a row is for."""

    TOKEN = "token"  # noqa: S105
    """Sent with every request of a program, or once to log in."""
    SESSION = "session"
    """A browser that has logged in."""
    LINK = "link"
    """Logs in once."""


@dataclass(frozen=True)
class AccessRow:
    """One of them; times in seconds since 1970, None where it never came to that.

    `parent_id` is the token that a session was opened with: who revokes it ends the session.
    """

    id: str
    name: str
    kind: AccessKind
    role: Role
    secret_hash: str
    parent_id: str | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    used_at: float | None

    @property
    def owner_id(self) -> str:
        """The token that stands behind it, or itself."""
        return self.parent_id or self.id

    def state(self, now: float) -> str:
        """Say what has become of it: valid, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


AccessRows: TypeAlias = list[AccessRow]

_VALID = and_(_token.revoked_at.is_(None), or_(_token.expires_at.is_(None), _token.expires_at > Now()))


class AccessTokenStore:
    """Reads and writes `hpo_access_token`. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        id: str,
        secret_hash: str,
        *,
        name: str,
        kind: AccessKind,
        role: Role,
        seconds: float | None,
        parent: AccessRow | None = None,
    ) -> AccessRow:
        """Write one down that is good for so many seconds (None: until it is revoked), never longer than its parent."""
        until = None if seconds is None else Now() + seconds
        if until is not None and parent is not None and parent.expires_at is not None:
            until = earlier(literal(parent.expires_at), until)
        values = {
            "id": id,
            "secret_hash": secret_hash,
            "name": name,
            "kind": kind,
            "role": role,
            "parent_id": parent.owner_id if parent is not None else None,
            "created_at": Now(),
            "expires_at": until,
        }
        statement = insert(schema.access_token).values(values).returning(schema.access_token)
        return _access(self._database.connection.execute(statement).one())

    def valid(self, id: str) -> AccessRow | None:
        """Return the one of that id, or None where there is none that is good now."""
        row = self._database.connection.execute(select(schema.access_token).where(_token.id == id, _VALID))
        found = row.one_or_none()
        return None if found is None else _access(found)

    def spend(self, id: str) -> AccessRow | None:
        """Use a login link up: the first caller gets it, all others None."""
        usable = and_(_token.id == id, _token.kind == AccessKind.LINK, _VALID)
        return self._change(update(schema.access_token).where(usable).values(revoked_at=Now(), used_at=Now()))

    def touch(self, id: str) -> None:
        """Note that it was used now."""
        self._database.connection.execute(update(schema.access_token).where(_token.id == id).values(used_at=Now()))

    def revoke(self, id: str) -> AccessRow:
        """Make it worthless, and the sessions opened with it; doing so again changes nothing.

        Raises:
            NotFoundError: there is none of this id.
        """
        of_it = or_(_token.id == id, _token.parent_id == id)
        still = and_(of_it, _token.revoked_at.is_(None))
        self._database.connection.execute(update(schema.access_token).where(still).values(revoked_at=Now()))
        found = self._database.connection.execute(select(schema.access_token).where(_token.id == id)).one_or_none()
        if found is None:
            ids = [row.id for row in self.list()]
            raise NotFoundError(f"there is no access token {id!r}{did_you_mean(id, ids)}: see `hpo-service token list`")
        return _access(found)

    def list(self) -> AccessRows:
        """Return all tokens, oldest first; sessions and links are not among them."""
        statement = select(schema.access_token).where(_token.kind == AccessKind.TOKEN)
        rows = self._database.connection.execute(statement.order_by(_token.created_at, _token.id))
        return [_access(row) for row in rows]

    def any_valid(self) -> bool:
        """Whether there is a token that is good now."""
        statement = select(_token.id).where(_token.kind == AccessKind.TOKEN, _VALID).limit(1)
        return self._database.connection.scalar(statement) is not None

    def forget(self, seconds: float) -> None:
        """Remove sessions and links that have been over for so long."""
        over = or_(_token.expires_at < Now() - seconds, _token.revoked_at < Now() - seconds)
        short_lived = _token.kind != AccessKind.TOKEN
        self._database.connection.execute(delete(schema.access_token).where(short_lived, over))

    def _change(self, statement: Update) -> AccessRow | None:
        row = self._database.connection.execute(statement.returning(schema.access_token)).one_or_none()
        return None if row is None else _access(row)


def _access(row: Row[Any]) -> AccessRow:
    values = columns_of(schema.access_token, row)
    return AccessRow(**{**values, "kind": AccessKind(values["kind"]), "role": Role(values["role"])})
