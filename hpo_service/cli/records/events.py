"""`hpo-service events`: what happened to a study, a trial or a worker, and why."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from hpo_service.cli.options import AsJson, StorageUrl, open_service
from hpo_service.cli.trial import place_of
from hpo_service.errors import DatabaseUnavailableError, UsageError

if TYPE_CHECKING:
    from hpo_service.service.events import EventRow, Follower

LOOK_SECONDS = 1.0
"""Between two looks while events are followed."""


def events(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="Only this study's; by default all.")] = None,
    trial: Annotated[
        str | None, typer.Option("--trial", metavar="STAGE/NUMBER", help="Only this trial's; a number is of search.")
    ] = None,
    worker: Annotated[str | None, typer.Option("--worker", metavar="WORKER", help="Only this worker's.")] = None,
    last: Annotated[int, typer.Option("--last", min=0, help="How many at most, the latest; 0 is all.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """List what happened and why, oldest first; with --json each event is one line of JSON."""
    if trial is not None and study is None:
        raise UsageError("--trial is of a study: name the study first")
    place = None if trial is None else place_of(trial)
    service = open_service(storage).events
    found = service.list(study, place, worker, last=last or None)
    _print(found, as_json=as_json)
    if follow:
        _follow(service.follow(study, place, worker, after=found[0].id - 1 if found else 0), found, as_json=as_json)


def _follow(follower: Follower, printed: list[EventRow], *, as_json: bool) -> None:
    known, away = {event.id for event in printed}, False
    try:
        while True:
            try:
                _print([event for event in follower.next() if event.id not in known], as_json=as_json)
                known, away = set(), False
            except DatabaseUnavailableError as error:
                if not away:
                    typer.echo(f"warning: {error}", err=True)
                away = True
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return


def _print(found: list[EventRow], *, as_json: bool) -> None:
    from hpo_service.presentation.documents.events import event_document, event_line

    for event in found:
        typer.echo(json.dumps(event_document(event)) if as_json else event_line(event))
    sys.stdout.flush()
