"""Asks the database itself, by the same use cases as the server and the command line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_service.bootstrap import Service
from hpo_service.client.transport import Document, Place, Wanted
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import DatabaseUnavailableError, NotFoundError, UsageError
from hpo_service.presentation.documents.events import event_document
from hpo_service.presentation.documents.study import outline_document, study_lines_document
from hpo_service.presentation.documents.trial import trial_document, trials_document
from hpo_service.presentation.documents.verdict import verdict_document
from hpo_service.presentation.documents.workers import workers_document
from hpo_service.presentation.exports.exporters import Written, export, exporters
from hpo_service.service.studies.study_file import read_foreign_study
from hpo_service.settings import Settings, person

if TYPE_CHECKING:
    from hpo_service.service.studies.reader import MeasuredStudy

VERBS: dict[str, StudyState] = {
    "pause": StudyState.PAUSED,
    "resume": StudyState.ACTIVE,
    "drain": StudyState.DRAINING,
    "cancel": StudyState.CANCELLED,
}
LOOK_SECONDS = 1.0
"""Between two looks while events are followed."""


class DatabaseTransport:
    """A `Transport`; what is done is done by whoever runs this process. No answer gets lost, so keys are not needed."""

    def __init__(self, url: str) -> None:
        self._service = Service(Settings.read(storage=url))
        self._service.require_current()

    @property
    def about(self) -> str:
        """The database, without its password."""
        return self._service.db.safe_url

    def create(self, text: str, key: str) -> Document:
        """Create a study; the very same one again changes nothing."""
        del key
        row = self._service.studies.create(read_foreign_study(text, "study").spec, by=person())
        return {"name": row.name, "state": str(row.state), "reason": row.reason}

    def validate(self, text: str) -> Document:
        """Check a study file, looking at no file that it names."""
        found = read_foreign_study(text, "study")
        warnings = [{"line": w.line, "key": w.key, "message": w.message} for w in found.warnings]
        return {"warnings": warnings, "study": found.spec.model_dump(mode="json")}

    def studies(self) -> list[Document]:
        """List all studies."""
        return study_lines_document(self._service.overview.lines())

    def study(self, name: str) -> Document:
        """Show one."""
        snapshot = self._service.reader.outline(name, 0)
        return outline_document(snapshot, self._service.reader.evidence(snapshot))

    def steer(self, name: str, verb: str, reason: str) -> Document:
        """Pause, resume, drain or cancel one."""
        row = self._service.studies.steer(name, VERBS[verb], reason or f"{verb} by {person()}", by=person())
        return {"name": row.name, "state": str(row.state), "reason": row.reason}

    def delete(self, name: str) -> None:
        """Delete one."""
        self._service.studies.delete(name, by=person())

    def trials(self, name: str, wanted: Wanted, cursor: str, limit: int) -> Document:
        """List a page of a study's trials."""
        try:
            states = [TrialState(state) for state in wanted.states]
        except ValueError as error:
            raise UsageError(f"{error}: there is {', '.join(TrialState)}") from None
        page = self._service.trial_list.page(
            name,
            stage=wanted.stage,
            states=states,
            worker=wanted.worker,
            after=int(cursor),
            limit=limit,
            curves=wanted.curves,
        )
        return trials_document(page, curves=wanted.curves)

    def trial(self, place: Place) -> Document:
        """Show a trial."""
        record = self._service.reader.record(place.study, place.stage, place.number)
        return trial_document(record, record.folders(self._service.settings.output))

    def stop(self, place: Place, reason: str) -> Document:
        """End one."""
        why = reason or f"stopped by {person()}"
        row = self._service.studies.stop_trial(place.study, place.stage, place.number, why, by=person())
        return {**vars(place), "state": str(row.state)}

    def retry(self, place: Place, key: str) -> Document:
        """Queue one again."""
        del key
        row = self._service.studies.retry_trial(place.study, place.stage, place.number, by=person())
        return {**vars(place), "state": str(row.state)}

    def workers(self) -> list[Document]:
        """List workers."""
        return workers_document(self._service.workers.list_all())

    def drain_worker(self, id: str, reason: str) -> Document:
        """Have a worker leave."""
        why = reason or f"asked for by {person()}"
        self._service.workers.drain(id, why, by=person())
        return {"id": id, "reason": why}

    def events(
        self, study: str | None, place: Place | None, worker: str | None, after: int, last: int
    ) -> list[Document]:
        """List events."""
        trial = None if place is None else (place.stage, place.number)
        rows = self._service.events.list(study, trial, worker, after=after, last=last)
        return [event_document(row) for row in rows]

    def follow(self, study: str | None, after: int | None) -> Iterator[Document]:
        """Follow events; while the database is away it waits."""
        events = self._service.events
        follower = events.go_on(study) if after is None else events.follow(study, after=after)
        while True:
            with contextlib.suppress(DatabaseUnavailableError):
                yield from map(event_document, follower.next())
            time.sleep(LOOK_SECONDS)

    def verdict(self, name: str) -> Document:
        """Say what a study found."""
        snapshot = self._service.reader.outline(name, 0)
        return verdict_document(snapshot, self._service.reader.evidence(snapshot))

    def report(self, name: str) -> str:
        """Return its report, HTML."""
        from hpo_service.presentation.report.page import render

        study = self._measured(name)
        return render(study.snapshot, study.evidence)

    def best(self, name: str) -> str:
        """Return the recommended configuration, YAML."""
        from hpo_service.presentation.exports.best import missing_adapter
        from hpo_service.presentation.exports.best_config import best_config

        study = self._measured(name)
        return best_config(study.snapshot, study.evidence, missing_adapter(study.snapshot, study.evidence))

    def export(self, name: str, kind: str, folder: Path) -> list[Path]:
        """Write its tables into a folder."""
        if kind not in exporters(Written.ON_REQUEST):
            raise NotFoundError(f"there is no export {kind!r}: there is {', '.join(exporters(Written.ON_REQUEST))}")
        return export(self._measured(name), kind, folder)

    def close(self) -> None:
        """Let go of the connection."""
        self._service.db.dispose()

    def _measured(self, name: str) -> MeasuredStudy:
        return self._service.reader.measured(name)
