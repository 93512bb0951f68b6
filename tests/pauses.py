"""Time that tests let pass in the database instead of waiting for it."""

from __future__ import annotations

from hpo_service.storage import schema
from hpo_service.storage.database import Database

LONG = 1000.0
"""Seconds, longer than any pause after an error."""


def let_pass(database: Database, seconds: float = LONG) -> None:
    """Move all ends of attempts and trials into the past, if a trial may be waiting because of one."""
    trial, attempt = schema.trial, schema.attempt
    with database.transaction():
        connection = database.connection
        if not connection.execute(trial.select().where(trial.c.errors > 0).limit(1)).first():
            return
        for table in (trial, attempt):
            connection.execute(table.update().values(ended_at=table.c.ended_at - seconds))
