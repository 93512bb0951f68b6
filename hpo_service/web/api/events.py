"""Events: listed, and followed as server-sent events while the asker stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from hpo_service.errors import DatabaseUnavailableError, HpoServiceError
from hpo_service.presentation.documents.events import event_document
from hpo_service.service.events import EventRow, Follower
from hpo_service.web.api.bodies import MOST_ID, PRINTABLE, StageName, StudyName, TrialNumber, WorkerId
from hpo_service.web.problems import problem
from hpo_service.web.state import Asked

MOST_EVENTS = 1000
LOOK_SECONDS = 1.0
"""Between two looks for what is new."""
HEARTBEAT_SECONDS = 15.0
"""The longest silence of a stream: proxies close what is silent for a minute."""
MOST_STREAMS = 32
"""Streams at a time; each asks the database once a second."""
MOST_SECONDS = 900.0
"""A stream ends after so long, and who follows asks again: an access token that was revoked is no good then."""

After = Annotated[int, Query(ge=0, le=MOST_ID, description="Only events with a higher id.")]
Limit = Annotated[int, Query(ge=1, le=MOST_EVENTS, description="At most so many, the latest.")]
LastEventId = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=0, le=MOST_ID, description="The last event that was seen; sent by browsers."),
]


@dataclass
class Streams:
    """The streams that are open, all of one event loop: how many there may be, and for how long each."""

    most: int = MOST_STREAMS
    seconds: float = MOST_SECONDS
    stopping: bool = False
    _open: int = 0

    def enter(self) -> bool:
        """Take a place, where there is one."""
        free = self._open < self.most and not self.stopping
        self._open += free
        return free

    def leave(self) -> None:
        """Give the place back."""
        self._open -= 1

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than until all are to end."""
        end = asyncio.get_running_loop().time() + seconds
        while not self.stopping and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(min(seconds, 0.1))


def list_events(
    service: Asked,
    study: Annotated[str | None, Query(max_length=100, description="Of this study alone.")] = None,
    worker: Annotated[str | None, Query(max_length=200, pattern=PRINTABLE, description="Of this worker alone.")] = None,
    after: After = 0,
    limit: Limit = 100,
) -> Response:
    """List what happened and why, oldest first."""
    return _listed(service.events.list(study, worker=worker, after=after, last=limit))


def list_study_events(service: Asked, name: StudyName, after: After = 0, limit: Limit = 100) -> Response:
    """List what happened to a study, its stages and its trials."""
    return _listed(service.events.list(name, after=after, last=limit))


def list_trial_events(
    service: Asked, name: StudyName, stage: StageName, number: TrialNumber, after: After = 0, limit: Limit = 100
) -> Response:
    """List what happened to a trial, under whatever number it went."""
    return _listed(service.events.list(name, (stage, number), after=after, last=limit))


def list_worker_events(service: Asked, id: WorkerId, after: After = 0, limit: Limit = 100) -> Response:
    """List what a worker did, and what happened to it."""
    return _listed(service.events.list(worker=id, after=after, last=limit))


def follow_events(
    request: Request, service: Asked, after: After | None = None, last_event_id: LastEventId = None
) -> Response:
    """Send what happens as it happens, as server-sent events, until the asker leaves; by default from now on.

    A stream that goes on by `Last-Event-ID` repeats what happened up to three minutes before: drop the ids you know.
    """
    return _stream(request, service, None, after, last_event_id)


def follow_study_events(
    request: Request, service: Asked, name: StudyName, after: After | None = None, last_event_id: LastEventId = None
) -> Response:
    """Send what happens to a study as it happens, as server-sent events, until the asker leaves or it is deleted."""
    return _stream(request, service, name, after, last_event_id)


def _listed(rows: list[EventRow]) -> Response:
    return JSONResponse([event_document(row) for row in rows])


def _stream(request: Request, service: Asked, study: str | None, after: int | None, last: int | None) -> Response:
    streams: Streams = request.app.state.streams
    wanted = service.events
    from_an_id = last is None and after is not None
    follower = wanted.follow(study, after=after or 0) if from_an_id else wanted.go_on(study, last=last)
    if from_an_id and study is not None:
        wanted.list(study, last=1)  # whether it is there
    return _EventStream(_sent(request, follower, streams), streams)


class _EventStream(StreamingResponse):
    """One stream; its place is free again however it ends."""

    def __init__(self, content: AsyncIterator[str], streams: Streams) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._streams.enter():
            detail = f"{self._streams.most} streams of events are open and no more are served: ask /v1/events instead"
            await problem(429, detail, headers={"Retry-After": "30"})(scope, receive, send)
            return
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.leave()


async def _sent(request: Request, follower: Follower, streams: Streams) -> AsyncIterator[str]:
    """Write each event once; a comment where nothing happens, so that a connection that broke is noticed."""
    clock = asyncio.get_running_loop().time
    began = spoke = clock()
    yield f"retry: {int(1000 * LOOK_SECONDS)}\n\n"
    while not streams.stopping and clock() - began < streams.seconds and not await request.is_disconnected():
        rows: list[EventRow] = []
        try:
            rows = await run_in_threadpool(follower.next)
        except DatabaseUnavailableError:
            pass  # it goes on when it is back
        except HpoServiceError as error:
            yield _message("end", {"reason": str(error)})
            return
        text = "".join(_event(row) for row in rows)
        if text or clock() - spoke >= HEARTBEAT_SECONDS:
            yield text or ": still here\n\n"
            spoke = clock()
        await streams.pause(LOOK_SECONDS)


def _event(row: EventRow) -> str:
    return f"id: {row.id}\n{_message(row.kind, event_document(row))}"


def _message(kind: str, document: dict[str, object]) -> str:
    return f"event: {kind}\ndata: {json.dumps(document)}\n\n"
