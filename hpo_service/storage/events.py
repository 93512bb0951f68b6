"""Events: what happened and why, one row each, never changed; written in the transaction of the thing itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Row, Select, delete, insert, literal, or_, select

from hpo_service.domain.events import EventKind, is_told
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.values import plain

REASON_CHARACTERS = 1000
"""A longer reason is cut: the whole one stands with the trial, the study or the worker."""

_event = schema.event.c


class Trial(Protocol):
    """What of a trial's row an event keeps."""

    @property
    def id(self) -> int:
        """Its id."""

    @property
    def study_id(self) -> int:
        """Its study."""

    @property
    def stage_id(self) -> int:
        """Its stage."""

    @property
    def number(self) -> int | None:
        """Its number at the time."""


@dataclass(frozen=True)
class EventRow:
    """One thing that happened, at a time in seconds since 1970; of which study, stage, trial and worker, if any.

    `number` is the trial's at the time: one that is tried again gets another. `kind` is one of `EventKind`, or what a
    later version calls it.
    """

    id: int
    at: float
    study: str | None
    stage: str | None
    trial_id: int | None
    number: int | None
    worker: str | None
    kind: str
    reason: str
    details: dict[str, Any]


EventRows: TypeAlias = list[EventRow]


@dataclass(frozen=True)
class About:
    """Which events are wanted; None where it does not matter."""

    study_id: int | None = None
    stage_id: int | None = None
    number: int | None = None
    worker: str | None = None


class EventStore:
    """Reads and writes `hpo_event`. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_study(
        self, kind: EventKind, study_id: int | None, reason: str, stage_id: int | None = None, **details: Any
    ) -> None:
        """Write down what happened to a study, or to one of its stages."""
        self._add(kind=kind, study_id=study_id, stage_id=stage_id, reason=reason, details=details)

    def of_trial(self, kind: EventKind, trial: Trial, reason: str, worker: str | None = None, **details: Any) -> None:
        """Write down what happened to a trial, by its row at the time."""
        place = {"study_id": trial.study_id, "stage_id": trial.stage_id, "trial_id": trial.id, "number": trial.number}
        self._add(kind=kind, reason=reason, worker=worker, details=details, **place)

    def of_worker(self, kind: EventKind, worker: str, reason: str, **details: Any) -> None:
        """Write down what happened to a worker."""
        self._add(kind=kind, worker=worker, reason=reason, details=details)

    def list(self, about: About, after: int = 0, last: int | None = None) -> EventRows:
        """Return events by increasing id, those after an id; at most the last so many."""
        statement = _SELECT.where(_event.id > after, *_conditions(about)).order_by(_event.id.desc()).limit(last)
        return [_row(row) for row in self._database.connection.execute(statement)][::-1]

    def find(self, id: int) -> EventRow | None:
        """Return one event; None where it was deleted with its study."""
        row = self._database.connection.execute(_SELECT.where(_event.id == id)).one_or_none()
        return None if row is None else _row(row)

    def delete(self, study_id: int) -> None:
        """Remove what is about a study, after the study itself is gone."""
        self._database.connection.execute(delete(schema.event).where(_event.study_id == study_id))

    def _add(self, *, reason: str, details: dict[str, Any], **columns: Any) -> None:
        known = {name: value for name, value in plain(details).items() if value not in (None, "")}
        values = {"at": Now(), "reason": reason[:REASON_CHARACTERS], "details": known, **columns}
        added = self._database.connection.scalar(insert(schema.event).values(values).returning(_event.id))
        if added is not None and is_told(columns["kind"], reason, str(details.get("by") or "")):
            self._have_told(added, columns.get("study_id"))

    def _have_told(self, event_id: int, study_id: int | None) -> None:
        """Queue an event for the webhooks that want it: in the same transaction, so that none is lost or made up."""
        hook, message = schema.webhook.c, schema.webhook_message
        wanting = select(hook.id, literal(event_id), literal(0), Now()).where(
            or_(hook.study_id.is_(None), hook.study_id == study_id)
        )
        columns = [message.c.webhook_id, message.c.event_id, message.c.attempts, message.c.due_at]
        self._database.connection.execute(insert(message).from_select(columns, wanting))


_SELECT: Select[Any] = (
    select(*_event, schema.study.c.name.label("study"), schema.stage.c.stage)
    .select_from(schema.event)
    .outerjoin(schema.study, schema.study.c.id == _event.study_id)
    .outerjoin(schema.stage, schema.stage.c.id == _event.stage_id)
)


def _conditions(about: About) -> Iterable[Any]:
    if about.study_id is not None:
        yield _event.study_id == about.study_id
    if about.worker is not None:
        yield _event.worker == about.worker
    if about.number is not None:
        # under whatever number it went: its planning has none, and a retry changes it
        named = schema.event.alias()
        same = (named.c.study_id == about.study_id, named.c.stage_id == about.stage_id)
        yield _event.trial_id.in_(select(named.c.trial_id).where(*same, named.c.number == about.number))
    elif about.stage_id is not None:
        yield _event.stage_id == about.stage_id


def _row(row: Row[Any]) -> EventRow:
    values = dict(row._mapping)
    del values["study_id"], values["stage_id"]
    return EventRow(**values)
