"""Webhooks: others are told when a stage ends and when there is trouble, each time once, in the order of events."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpo_service.errors import HpoServiceError
from hpo_service.service.posting import NotTaken, check_url, post, shown
from hpo_service.storage.database import Database
from hpo_service.storage.events import EventRow
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.webhooks import MessageRow, WebhookRow, WebhookStore

__all__ = ["AddedWebhook", "WebhookRow", "Webhooks"]

SECRET_BYTES = 24
HOLD_SECONDS = 60.0
"""How long a message is its sender's: longer than sending may take."""
FIRST_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 3600.0
MOST_ATTEMPTS = 12
"""After so many, within about five hours, a message is given up."""
MOST_IN_A_ROUND = 50
Post = Callable[..., None]
Write = Callable[[EventRow], dict[str, Any]]


@dataclass(frozen=True)
class AddedWebhook:
    """A new one, and the secret its messages are signed with, which is shown this once."""

    id: str
    secret: str


@dataclass(frozen=True)
class Webhooks:
    """Adds, lists, tests and removes webhooks, and tells them what they are to be told."""

    db: Database
    studies: StudyStore
    rows: WebhookStore
    post: Post = post

    def add(self, url: str, study: str | None = None, *, allow_link_local: bool = False) -> AddedWebhook:
        """Have a URL told what happens from now on.

        Args:
            url: http(s).
            study: only of this study; workers' trouble is told to webhooks of all studies.
            allow_link_local: whether its address may be one at which clouds tell credentials.

        Raises:
            UsageError: it is no such URL.
            NotFoundError: there is no such study.
        """
        check_url(url)
        id, secret = secrets.token_hex(4), secrets.token_hex(SECRET_BYTES)
        with self.db.transaction():
            study_id = None if study is None else self.studies.get(study).id
            self.rows.add(id, url, secret, study_id, allow_link_local=allow_link_local)
        return AddedWebhook(id, secret)

    def list_all(self) -> list[WebhookRow]:
        """Read which webhooks there are."""
        with self.db.transaction(read_only=True):
            return self.rows.list()

    def remove(self, id: str) -> None:
        """Remove one.

        Raises:
            NotFoundError: there is none of this id.
        """
        with self.db.transaction():
            self.rows.remove(self.rows.get(id).id)

    def test(self, id: str) -> None:
        """Send a message that says it is a test.

        Raises:
            NotFoundError: there is none of this id.
            HpoServiceError: the message was not taken.
        """
        with self.db.transaction(read_only=True):
            hook = self.rows.get(id)
        try:
            self._send(hook, {"text": "hpo-service: this is a test", "event": None}, "test")
        except NotTaken as error:
            raise HpoServiceError(f"webhook {id} ({shown(hook.url)}) did not take the message: {error}") from None

    def deliver(self, write: Write) -> int:
        """Send what is due; what is not taken is tried again later, after pauses that grow.

        Args:
            write: makes the message of an event.

        Returns:
            How many messages were taken.
        """
        taken = 0
        for _ in range(MOST_IN_A_ROUND):
            with self.db.transaction():
                message = self.rows.take(HOLD_SECONDS)
                if message is None:
                    return taken
                hook, event = self.rows.get(message.webhook_id), self.studies.events.find(message.event_id)
            taken += self._tell(hook, message, event, write)
        return taken

    def _tell(self, hook: WebhookRow, message: MessageRow, event: EventRow | None, write: Write) -> bool:
        error = ""
        try:
            if event is not None:  # else its study was deleted
                self._send(hook, write(event), str(event.id))
        except NotTaken as not_taken:
            error = str(not_taken)
        with self.db.transaction():
            if error and message.attempts < MOST_ATTEMPTS:
                self.rows.postpone(message, pause_after(message.attempts), error)
            else:
                self.rows.done(message, error)
        return not error

    def _send(self, hook: WebhookRow, message: dict[str, Any], about: str) -> None:
        self.post(hook.url, hook.secret, message, about=about, allow_link_local=hook.allow_link_local)


def pause_after(attempts: int) -> float:
    """Return how many seconds to wait after so many attempts: it doubles up to an hour."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (attempts - 1))
