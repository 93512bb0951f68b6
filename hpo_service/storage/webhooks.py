"""Webhooks, and the messages that they are still to get: written with the event, removed when they were taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import delete, insert, select, update

from hpo_service.domain.study.spelling import did_you_mean
from hpo_service.errors import NotFoundError
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.dialects.upsert import columns_of

_hook = schema.webhook.c
_message = schema.webhook_message.c


@dataclass(frozen=True)
class WebhookRow:
    """One of them; `error` is why the last message was not taken, empty where it was."""

    id: str
    url: str
    secret: str
    study_id: int | None
    study: str | None
    allow_link_local: bool
    created_at: float
    sent_at: float | None
    error: str


WebhookRows: TypeAlias = list[WebhookRow]


@dataclass(frozen=True)
class MessageRow:
    """An event that a webhook is to be told; `attempts` counts the one that is about to be made."""

    webhook_id: str
    event_id: int
    attempts: int


class WebhookStore:
    """Reads and writes `hpo_webhook` and its messages. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, id: str, url: str, secret: str, study_id: int | None, *, allow_link_local: bool) -> None:
        """Write one down."""
        values = {"id": id, "url": url, "secret": secret, "study_id": study_id, "allow_link_local": allow_link_local}
        self._database.connection.execute(insert(schema.webhook).values(**values, created_at=Now(), error=""))

    def list(self) -> WebhookRows:
        """Return all, oldest first."""
        statement = select(schema.webhook, schema.study.c.name.label("study")).outerjoin(
            schema.study, schema.study.c.id == _hook.study_id
        )
        rows = self._database.connection.execute(statement.order_by(_hook.created_at, _hook.id))
        return [WebhookRow(**columns_of(schema.webhook, row), study=row._mapping["study"]) for row in rows]

    def get(self, id: str) -> WebhookRow:
        """Return one.

        Raises:
            NotFoundError: there is none of this id.
        """
        rows = {row.id: row for row in self.list()}
        if id not in rows:
            raise NotFoundError(f"there is no webhook {id!r}{did_you_mean(id, rows)}: see `hpo-service webhook list`")
        return rows[id]

    def remove(self, id: str) -> None:
        """Remove one, with what it was still to get."""
        self._database.connection.execute(delete(schema.webhook).where(_hook.id == id))

    def take(self, seconds: float) -> MessageRow | None:
        """Take the first message that is due, for so many seconds; None where there is none.

        Whoever asks meanwhile gets another one: a message is sent by one process, and by another if that one dies.
        """
        due = _message.due_at <= Now()
        first = select(_message.webhook_id, _message.event_id).where(due).order_by(_message.event_id).limit(1)
        found = self._database.connection.execute(first).one_or_none()
        if found is None:
            return None
        taken = (
            update(schema.webhook_message)
            .where(_message.webhook_id == found.webhook_id, _message.event_id == found.event_id, due)
            .values(due_at=Now() + seconds, attempts=_message.attempts + 1)
            .returning(_message.webhook_id, _message.event_id, _message.attempts)
        )
        row = self._database.connection.execute(taken).one_or_none()
        return None if row is None else MessageRow(*row)

    def done(self, message: MessageRow, error: str = "") -> None:
        """Forget a message: it was taken, or it is given up, and why."""
        mine = (_message.webhook_id == message.webhook_id, _message.event_id == message.event_id)
        self._database.connection.execute(delete(schema.webhook_message).where(*mine))
        self._note(message.webhook_id, error)

    def postpone(self, message: MessageRow, seconds: float, error: str) -> None:
        """Send nothing more to a webhook for so long, in order that messages come in the order of events."""
        theirs = update(schema.webhook_message).where(_message.webhook_id == message.webhook_id)
        self._database.connection.execute(theirs.values(due_at=Now() + seconds))
        self._note(message.webhook_id, error)

    def _note(self, id: str, error: str) -> None:
        changed = {"error": error} if error else {"error": "", "sent_at": Now()}
        self._database.connection.execute(update(schema.webhook).where(_hook.id == id).values(**changed))
