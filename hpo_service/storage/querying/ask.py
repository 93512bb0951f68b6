"""Which way of asking belongs to which database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from hpo_service.storage.database import Database
from hpo_service.storage.querying.answer import Answer
from hpo_service.storage.querying.postgresql import ask_postgresql
from hpo_service.storage.querying.sqlite import ask_sqlite
from hpo_service.storage.querying.text import one_question

Ask = Callable[[Database, str, float], AbstractContextManager[Answer]]

ASK: Mapping[str, Ask] = {"sqlite": ask_sqlite, "postgresql": ask_postgresql}
"""How a question is run, by the kind of database."""


def ask(database: Database, text: str, seconds: float) -> AbstractContextManager[Answer]:
    """Run a question in SQL that only reads; its rows are read while the context is entered.

    Args:
        database: whose; no transaction of this thread may be open.
        text: one SELECT.
        seconds: the longest that it may take until its next rows.

    Raises:
        UsageError: it is empty, refused, wrong or takes too long.
        DatabaseUnavailableError: the database cannot be read.
    """
    return ASK[database.dialect](database, one_question(text), seconds)
