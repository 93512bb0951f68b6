"""The client that people use: the same methods, types and errors over HTTP and straight from a database."""

from __future__ import annotations

import html
import json
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from hpo_service.client.records import Record, Records
from hpo_service.client.transport import Document, Place, Transport, Wanted
from hpo_service.errors import DatabaseUnavailableError, NotFoundError, ServerUnavailableError, UsageError

T = TypeVar("T")
StudyGiven = str | Path | Mapping[str, Any]

PATIENCE_SECONDS = 60.0
"""How long what may be asked twice is asked again while server or database are away."""
PAGE = 1000
KEPT_IDS = 10_000
"""Ids of events that were told, so that none is told twice."""


class Client:
    """Studies, trials, workers and events; what may be asked twice is asked again while nobody answers.

    Documents are those of `/v1`, as dictionaries; lists of them have `.frame()`. Every method raises the errors of
    `hpo_service.errors`.
    """

    def __init__(self, transport: Transport, *, patience: float = PATIENCE_SECONDS) -> None:
        self._transport = transport
        self._patience = patience

    def create(self, study: StudyGiven, *, key: str | None = None) -> Record:
        """Create a study; the very same one again changes nothing.

        Args:
            study: a study file: its path, its text, or what it says as a dictionary. Relative paths in a file start at
                its own folder; in a text or a dictionary there are none.
            key: tells this request from another one that says the same, by default a new one.
        """
        text, once = _text(study), key or str(uuid.uuid4())
        return Record(self._again(lambda: self._transport.create(text, once)))

    def validate(self, study: StudyGiven) -> Record:
        """Check a study file; returns its warnings and the study with every default."""
        text = _text(study)
        return Record(self._again(lambda: self._transport.validate(text)))

    def studies(self) -> Records:
        """List all studies with stage and progress."""
        return Records(self._again(self._transport.studies))

    def study(self, name: str) -> Record:
        """Show a study: its stages with counts, cost and best trial, and the verdict."""
        return Record(self._again(lambda: self._transport.study(name)))

    def pause(self, name: str, reason: str = "") -> Record:
        """Give all running trials back with a checkpoint and hand out no more until `resume`."""
        return self._steer(name, "pause", reason)

    def resume(self, name: str, reason: str = "") -> Record:
        """Go on with a paused, draining, failed or cancelled study."""
        return self._steer(name, "resume", reason)

    def drain(self, name: str, reason: str = "") -> Record:
        """Let running trials end, but hand out no more until `resume`."""
        return self._steer(name, "drain", reason)

    def cancel(self, name: str, reason: str = "") -> Record:
        """End a study; what was measured is kept."""
        return self._steer(name, "cancel", reason)

    def delete(self, name: str) -> None:
        """Delete a study and everything measured in it."""
        tried = 0

        def act() -> None:
            nonlocal tried
            tried += 1
            try:
                self._transport.delete(name)
            except NotFoundError:
                if tried == 1:  # else the request before was heard, and its answer lost
                    raise

        self._again(act)

    def trials(
        self, study: str, stage: str | None = None, states: Collection[str] = (), worker: str | None = None
    ) -> Records:
        """List the trials of a study that fit, in the order they came to be, without their curves."""
        return Records(self._trials(study, Wanted(stage, states, worker)))

    def curves(self, study: str, stage: str | None = None, states: Collection[str] = ()) -> Records:
        """List the reports of a study's trials: stage and number of the trial, then step, fraction, value and so on."""
        return Records(
            {"study": study, "stage": trial["stage"], "number": trial["number"], **report}
            for trial in self._trials(study, Wanted(stage, states, curves=True))
            for report in trial["curve"]
        )

    def trial(self, study: str, stage: str, number: int) -> Record:
        """Show a trial: parameters, curve, attempts and facts."""
        place = Place(study, stage, number)
        return Record(self._again(lambda: self._transport.trial(place)))

    def stop(self, study: str, stage: str, number: int, reason: str = "") -> Record:
        """End a trial; a running one obeys at its next report or heartbeat."""
        return Record(self._transport.stop(Place(study, stage, number), reason))

    def retry(self, study: str, stage: str, number: int, *, key: str | None = None) -> Record:
        """Queue a failed or cancelled trial again, under a new number."""
        return Record(self._transport.retry(Place(study, stage, number), key or str(uuid.uuid4())))

    def workers(self) -> Records:
        """List the workers that registered."""
        return Records(self._again(self._transport.workers))

    def drain_worker(self, id: str, reason: str = "") -> Record:
        """Have a worker save its trials, give them back and exit."""
        return Record(self._again(lambda: self._transport.drain_worker(id, reason)))

    def events(
        self,
        study: str | None = None,
        trial: tuple[str, int] | None = None,
        worker: str | None = None,
        *,
        after: int = 0,
        last: int = 100,
    ) -> Records:
        """List what happened and why, oldest first: at most the last so many, up to 1,000.

        Args:
            study: of this study alone.
            trial: of this trial of it alone: stage and number.
            worker: of this worker alone.
            after: only events with a higher id.
            last: how many at most.

        Raises:
            UsageError: a trial without its study.
        """
        if trial is not None and study is None:
            raise UsageError("a trial is of a study: name the study too")
        place = Place(study, *trial) if study is not None and trial is not None else None
        return Records(self._again(lambda: self._transport.events(study, place, worker, after, last)))

    def follow(self, study: str | None = None, *, after: int | None = None) -> Iterator[Record]:
        """Give each event as it happens, once, without an end; from an id on, or from now on."""
        known: dict[int, None] = {}
        for event in self._transport.follow(study, after):
            if event["id"] not in known:
                known[event["id"]] = None
                if len(known) > KEPT_IDS:
                    del known[next(iter(known))]
                yield Record(event)

    def verdict(self, study: str) -> Record:
        """Say what a study found, with its numbers."""
        return Record(self._again(lambda: self._transport.verdict(study)))

    def report(self, study: str) -> str:
        """Return a study's report, one page of HTML."""
        return self._again(lambda: self._transport.report(study))

    def best(self, study: str) -> str:
        """Return the recommended configuration, YAML with where each value is from."""
        return self._again(lambda: self._transport.best(study))

    def export(self, study: str, folder: str | Path, kind: str = "csv") -> list[Path]:
        """Write a study's tables (trials, curves, attempts, scores) into a folder, which is created."""
        return self._again(lambda: self._transport.export(study, kind, Path(folder)))

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<hpo-service at {self._transport.about}>"

    def _repr_html_(self) -> str:
        return f"<p>hpo-service at {html.escape(self._transport.about)}</p>{self.studies()._repr_html_()}"

    def _steer(self, name: str, verb: str, reason: str) -> Record:
        return Record(self._again(lambda: self._transport.steer(name, verb, reason)))

    def _trials(self, study: str, wanted: Wanted) -> Iterator[Document]:
        cursor: str | None = "0"
        while cursor is not None:
            at = cursor
            page = self._again(lambda at=at: self._transport.trials(study, wanted, at, PAGE))  # type: ignore[misc]
            yield from page["trials"]
            cursor = page["next"]

    def _again(self, call: Callable[[], T]) -> T:
        """Call until somebody answers; only for what may be done twice."""
        until = Retrying(
            retry=retry_if_exception_type((DatabaseUnavailableError, ServerUnavailableError)),
            wait=wait_random_exponential(multiplier=0.2, max=5.0),
            stop=stop_after_delay(self._patience),
            sleep=time.sleep,
            reraise=True,
        )
        return until(call)


def _text(study: StudyGiven) -> str:
    """Return a study file's text; one that lies on this machine is read here, with the paths it means."""
    if isinstance(study, Mapping):
        return json.dumps(study)
    if isinstance(study, Path):
        from hpo_service.service.studies.study_file import read_study_file

        return json.dumps(read_study_file(study).spec.model_dump(mode="json", exclude_unset=True))
    return study
