"""Questions in SQL that only read, about everything that the database holds."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from hpo_service.storage.database import Database
from hpo_service.storage.querying.answer import Answer
from hpo_service.storage.querying.ask import ask

__all__ = ["Answer", "Query"]

SECONDS = 60.0
"""How long a question may take until its next rows."""


@dataclass(frozen=True)
class Query:
    """Answers questions; changes nothing."""

    db: Database

    def ask(self, sql: str, seconds: float = SECONDS) -> AbstractContextManager[Answer]:
        """Run one SELECT; its rows are read while the context is entered.

        Raises:
            UsageError: it is empty, refused, wrong or takes too long.
            DatabaseUnavailableError: the database cannot be read.
        """
        return ask(self.db, sql, seconds)
