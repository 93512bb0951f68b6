"""Runs migrations in the transaction that the service has open, or, for the alembic command, in one of its own."""

from __future__ import annotations

from alembic import context
from hpo_service.settings import Settings
from hpo_service.storage.database import Database
from hpo_service.storage.migrations import context_options


def migrate(database: Database) -> None:
    context.configure(connection=database.connection, **context_options())
    context.run_migrations()


given: Database | None = context.config.attributes.get("database")
if given is not None:
    migrate(given)
else:
    own = Database(Settings.read().storage)
    with own.transaction():
        migrate(own)
    own.dispose()
