"""Who may use the server: tokens that are shown once, sessions of browsers, links that log in once."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from hpo_service.domain.access import Role
from hpo_service.errors import DatabaseUnavailableError
from hpo_service.storage.access.tokens import AccessKind, AccessRow, AccessTokenStore
from hpo_service.storage.database import Database

__all__ = ["Access", "AccessKind", "AccessList", "AccessRow", "Issued"]

PREFIX = "hpo"
"""What every secret begins with, so that it is known for what it is where it should not be."""
SECRET_BYTES = 24
SESSION_SECONDS = 12 * 3600.0
"""How long a browser stays logged in."""
LINK_SECONDS = 15 * 60.0
"""How long a login link is good for."""
NOTED_SECONDS = 60.0
"""When a token was used last is known to so many seconds: not every request writes."""
KEPT_SECONDS = 86_400.0
"""How long sessions and links are kept after their end."""


@dataclass(frozen=True)
class Issued:
    """A new token, session or link. `secret` is its text, which only this moment knows: the database has a hash."""

    row: AccessRow
    secret: str


@dataclass(frozen=True)
class AccessList:
    """The access tokens that there are and were, at the time `now` of the database's clock."""

    tokens: list[AccessRow]
    now: float


@dataclass(frozen=True)
class Access:
    """Issues, recognises and revokes what people and programs show the server.

    A secret is 192 random bits, so one round of SHA-256 keeps it as well as any slower hash would.
    """

    db: Database
    rows: AccessTokenStore

    def issue(self, name: str, role: Role, seconds: float | None = None) -> Issued:
        """Make an access token; without `seconds` it is good until it is revoked."""
        return self._new(name, AccessKind.TOKEN, role, seconds)

    def link(self, role: Role) -> Issued:
        """Make a link's code that logs in once, within a quarter of an hour."""
        return self._new("login link", AccessKind.LINK, role, LINK_SECONDS)

    def recognise(self, secret: str, kind: AccessKind) -> AccessRow | None:
        """Return whose secret this is, or None where it is nobody's, of another kind, expired or revoked."""
        id, digest = _read(secret)
        with self.db.transaction(read_only=True):
            row, now = self.rows.valid(id), self.db.clock()
        if row is None or row.kind is not kind or not hmac.compare_digest(row.secret_hash, digest):
            return None
        if now - (row.used_at or 0.0) > NOTED_SECONDS:
            # a database that only reads for a while must not keep people out
            with contextlib.suppress(DatabaseUnavailableError), self.db.transaction():
                self.rows.touch(row.id)
        return row

    def open_session(self, secret: str) -> Issued | None:
        """Log a browser in by a token's secret; None where it is not good."""
        token = self.recognise(secret, AccessKind.TOKEN)
        return None if token is None else self._session(token, token)

    def follow_link(self, secret: str) -> Issued | None:
        """Log a browser in by a link's code, which is used up; None where it is not good any more."""
        found = self.recognise(secret, AccessKind.LINK)
        if found is None:
            return None
        with self.db.transaction():
            spent = self.rows.spend(found.id)
            return None if spent is None else self._session(spent, None)

    def revoke(self, id: str) -> AccessRow:
        """Make a token worthless, and the sessions opened with it.

        Raises:
            NotFoundError: there is none of this id.
        """
        with self.db.transaction():
            return self.rows.revoke(id)

    def list_all(self) -> AccessList:
        """Read which access tokens there are and were."""
        with self.db.transaction(read_only=True):
            return AccessList(self.rows.list(), self.db.clock())

    def anybody(self) -> bool:
        """Whether anybody has a token that is good now."""
        with self.db.transaction(read_only=True):
            return self.rows.any_valid()

    def tidy(self) -> None:
        """Remove sessions and links that ended a day ago."""
        with self.db.transaction():
            self.rows.forget(KEPT_SECONDS)

    def _session(self, by: AccessRow, parent: AccessRow | None) -> Issued:
        return self._new(by.name, AccessKind.SESSION, by.role, SESSION_SECONDS, parent)

    def _new(
        self, name: str, kind: AccessKind, role: Role, seconds: float | None, parent: AccessRow | None = None
    ) -> Issued:
        id, rest = secrets.token_hex(4), secrets.token_hex(SECRET_BYTES)
        secret = f"{PREFIX}_{id}_{rest}"
        with self.db.transaction():
            row = self.rows.add(id, _read(secret)[1], name=name, kind=kind, role=role, seconds=seconds, parent=parent)
        return Issued(row, secret)


def _read(secret: str) -> tuple[str, str]:
    """Return the id that a secret names, and its hash."""
    parts = secret.split("_")
    id = parts[1] if len(parts) == 3 and parts[0] == PREFIX and len(parts[1]) <= 16 and parts[1].isalnum() else ""
    return id, hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
