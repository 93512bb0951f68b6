"""What happened, as plain data and as lines for people."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from hpo_service.presentation.documents.plain import plain
from hpo_service.storage.events import EventRow


def event_document(event: EventRow) -> dict[str, Any]:
    """Return an event as plain data; its time in seconds since 1970, and as text in UTC."""
    return {**plain(dataclasses.asdict(event)), "time": _time(event).isoformat(timespec="milliseconds")}


def message_of(event: EventRow) -> dict[str, Any]:
    """Return what a webhook is told of an event: `text` as Slack shows it, and the event."""
    return {"text": event_line(event), "event": event_document(event)}


def event_line(event: EventRow) -> str:
    """Return an event as one line: when, about what, its kind, why, and by whom."""
    about = " ".join(part for part in (event.study, _place(event)) if part) or event.worker or ""
    people = [f"by {event.details['by']}"] if event.details.get("by") else []
    workers = [event.worker] if event.worker and event.worker not in (about, *event.reason.split()) else []
    aside = f" ({', '.join([*workers, *people])})" if workers or people else ""
    reason = " ".join(event.reason.split())
    return f"{_time(event):%Y-%m-%d %H:%M:%S}  {about}  {event.kind.replace('_', ' ')}: {reason}{aside}"


def _time(event: EventRow) -> datetime:
    return datetime.fromtimestamp(event.at, UTC)


def _place(event: EventRow) -> str:
    number = f" #{event.number}" if event.number is not None else ""
    label = f" {event.details['label']}" if number == "" and event.details.get("label") else ""
    return f"{event.stage or ''}{number}{label}"
