"""The only wiring point: settings -> database -> stores -> use cases."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import DatabaseUnavailableError, NotFoundError, ServedStudyFailedError
from hpo_service.launch.devices import too_few_gpus
from hpo_service.search.studies import OptunaStudies
from hpo_service.service.stages.advance import Stages
from hpo_service.service.studies.evidence import Evidence, LoadScores, gather_evidence
from hpo_service.service.studies.lifecycle import Studies
from hpo_service.service.studies.snapshot import StudySnapshot, take_snapshot
from hpo_service.service.studies.trial_record import TrialRecord, read_record
from hpo_service.service.trials.queue import TrialQueue
from hpo_service.service.trials.reaper import Reaper
from hpo_service.service.unreadable import Unreadable
from hpo_service.settings import Settings
from hpo_service.storage import migrations
from hpo_service.storage.database import Database
from hpo_service.storage.scores import ScoreStore
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trial_reader import AttemptRows
from hpo_service.storage.trials import TrialStore
from hpo_service.storage.workers import WorkerStore
from hpo_service.worker.options import WorkerOptions
from hpo_service.worker.supervisor import Supervisor

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """Everything the command line and the web need, wired to one database."""

    settings: Settings

    @cached_property
    def db(self) -> Database:
        """The one database of this process; its file's folder is created where it is SQLite."""
        return Database(self.settings.storage)

    @cached_property
    def optuna(self) -> OptunaStudies:
        """Optuna's half of the same database."""
        return OptunaStudies(self.db.url, self.db.session_source)

    @cached_property
    def study_rows(self) -> StudyStore:
        """Rows of studies and stages."""
        return StudyStore(self.db)

    @cached_property
    def trial_rows(self) -> TrialStore:
        """Rows of trials, attempts and reports."""
        return TrialStore(self.db)

    @cached_property
    def worker_rows(self) -> WorkerStore:
        """Rows of workers."""
        return WorkerStore(self.db)

    @cached_property
    def score_rows(self) -> ScoreStore:
        """Per-example scores."""
        return ScoreStore(self.db)

    @cached_property
    def unreadable(self) -> Unreadable:
        """What was said about studies of other versions."""
        return Unreadable()

    @cached_property
    def stages(self) -> Stages:
        """Advances studies from stage to stage."""
        return Stages(self.db, self.study_rows, self.trial_rows, self.optuna, self.unreadable)

    @cached_property
    def studies(self) -> Studies:
        """Creates and steers studies."""
        return Studies(self.db, self.study_rows, self.trial_rows, self.optuna, self.stages)

    @cached_property
    def queue(self) -> TrialQueue:
        """What workers call."""
        return TrialQueue(
            self.db, self.study_rows, self.trial_rows, self.score_rows, self.worker_rows, self.optuna, self.unreadable
        )

    @cached_property
    def reaper(self) -> Reaper:
        """Takes trials back from silent workers."""
        return Reaper(self.db, self.study_rows, self.trial_rows, self.worker_rows, self.optuna, self.unreadable)

    def upgrade(self) -> None:
        """Bring the database's schema up to this version; safe from any number of processes at once."""
        migrations.upgrade(self.db, lambda: OptunaStudies.create_tables(self.db.url))

    def snapshot(self, study: str) -> StudySnapshot:
        """Read a study as it is now.

        Raises:
            NotFoundError: there is no study of this name.
        """
        return take_snapshot(self.db, self.study_rows, self.trial_rows, study)

    def record(self, study: str, stage: str, number: int) -> TrialRecord:
        """Read everything that is kept of one trial.

        Raises:
            NotFoundError: there is no such study, stage or trial.
        """
        return read_record(self.db, self.study_rows, self.trial_rows, study, stage, number)

    def export(self, snapshot: StudySnapshot, write: Callable[[AttemptRows, LoadScores], T]) -> T:
        """Call `write` with the attempts of a study, and what loads the scores of its trials."""
        with self.db.transaction(read_only=True):
            attempts = self.trial_rows.attempts_in(self.study_rows.get(snapshot.name).id)
            return write(attempts, self.score_rows.load)

    def require(self, study: str, gpus: int | None = None) -> None:
        """Make sure that a study exists, and that its trials fit a worker with this many GPUs; None fits all.

        Raises:
            NotFoundError: there is no study of this name.
            HpoServiceError: its trials need more GPUs.
        """
        with self.db.transaction():
            row = self.study_rows.get(study)
        if gpus is not None and (needed := row.specification().execution.gpus_per_trial) > gpus:
            raise too_few_gpus(needed, gpus)

    def require_success(self, study: str) -> None:
        """Make sure that a study did not fail; one that was deleted, or a database that is away, says nothing.

        Raises:
            ServedStudyFailedError: it failed.
        """
        with contextlib.suppress(DatabaseUnavailableError, NotFoundError), self.db.transaction():
            row = self.study_rows.get(study)
            if row.state is StudyState.FAILED:
                raise ServedStudyFailedError(
                    f"study {study} failed: {row.reason}; mend the cause, then `hpo-service study resume {study}`"
                )

    def evidence(self, snapshot: StudySnapshot) -> Evidence:
        """Compare what the confirm stage measured."""
        with self.db.transaction():
            return gather_evidence(snapshot, self.score_rows.load)

    def finished(self, study: str | None) -> bool:
        """Whether this study (or, without a name, every study) has ended or is not to be worked on.

        A study that was deleted has ended.
        """
        with self.db.transaction():
            try:
                rows = self.study_rows.list() if study is None else [self.study_rows.get(study)]
            except NotFoundError:
                return True
            return all(row.state.final or row.state in (StudyState.PAUSED, StudyState.DRAINING) for row in rows)

    def supervisor(self, options: WorkerOptions) -> Supervisor:
        """Register a worker and return its loop."""
        given = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(str(number) for number in range(options.gpus or 0))
        devices = given if options.gpus else "cpu"
        with self.db.transaction():
            self.worker_rows.register(
                options.id, platform.node(), os.getpid(), importlib.metadata.version("hpo-service"), devices
            )
        queue = replace(self.queue, gpus=options.gpus)
        return Supervisor(queue, self.stages, self.reaper, lambda: self.finished(options.study), options)

    def activities(self) -> dict[str, str]:
        """What each active worker is busy with, by its id; workers that only train are left out."""
        with self.db.transaction(read_only=True):
            rows = [row for row in self.worker_rows.list() if row.state == "active"]
        return {row.id: row.reason for row in rows if "%" in row.reason}

    def retire(self, worker_id: str) -> None:
        """Note that a worker left of its own accord; a database that is away is told nothing."""
        with contextlib.suppress(DatabaseUnavailableError), self.db.transaction():
            self.worker_rows.stop(worker_id, "left of its own accord")


def new_worker_id() -> str:
    """Name a worker after its host and process, with a few random letters: process numbers come back."""
    return f"{platform.node().split('.')[0]}-{os.getpid()}-{secrets.token_hex(2)}"
