"""Doing a thing once, however often its request arrives: the deed and the note of it commit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpo_service.errors import ConflictError
from hpo_service.storage.access.requests import IdempotentRequestStore
from hpo_service.storage.database import Database

KEPT_SECONDS = 86_400.0
"""How long an answer is kept at least."""


@dataclass(frozen=True)
class Idempotency:
    """Keeps what requests that carry a key were answered."""

    db: Database
    rows: IdempotentRequestStore

    def once(
        self, owner_id: str, key: str, fingerprint: str, act: Callable[[], dict[str, Any]]
    ) -> tuple[dict[str, Any], bool]:
        """Act, unless it was done before under this key; an act that raises leaves the key free.

        Args:
            owner_id: whose key it is.
            key: chosen by the sender.
            fingerprint: of the request, so that a key is not used for two.
            act: does it in the transaction that is open, and returns the answer.

        Returns:
            The answer, and whether it is an earlier one.

        Raises:
            ConflictError: the key was used for another request.
        """
        with self.db.transaction():
            before = self.rows.begin(owner_id, key, fingerprint)
            if before is None:
                answer = act()
                self.rows.keep(owner_id, key, answer)
                return answer, False
        if before.fingerprint != fingerprint:
            raise ConflictError(f"the idempotency key {key!r} was used for another request: send a new one with this")
        return before.answer, True

    def tidy(self) -> None:
        """Forget what is older than a day."""
        with self.db.transaction():
            self.rows.forget(KEPT_SECONDS)
