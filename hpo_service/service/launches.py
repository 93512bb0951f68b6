"""Launches as the database knows them: written down before anything is submitted, found and steered from anywhere."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpo_service.errors import ConflictError, NotFoundError
from hpo_service.service.studies.checks import require_workable
from hpo_service.storage.database import Database
from hpo_service.storage.launches import LaunchRow, LaunchState, LaunchStore
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.workers import WorkerRow, WorkerState, WorkerStore

__all__ = ["LaunchRow", "LaunchState", "LaunchedWorkers", "Launches", "new_launch_id"]

SILENT_SECONDS = 30.0
"""Whoever keeps a launch and was not heard of for so long is taken to be gone."""


@dataclass(frozen=True)
class LaunchedWorkers:
    """The workers of a launch, in the order they started, at the time `now` of the database's clock."""

    launch: LaunchRow
    workers: list[WorkerRow]
    now: float

    def count(self, *states: WorkerState) -> int:
        """Count those in these states."""
        return sum(worker.state in states for worker in self.workers)


@dataclass(frozen=True)
class Launches:
    """Writes launches down, finds them and changes what is wanted of them; starts and ends nothing."""

    db: Database
    studies: StudyStore
    rows: LaunchStore
    workers: WorkerStore

    def add(
        self, id: str, study: str, launcher: str, workers: int, options: Mapping[str, Any], *, output: str, by: str
    ) -> LaunchRow:
        """Write a launch down.

        Raises:
            NotFoundError: there is no such study.
        """
        with self.db.transaction():
            study_id = self.studies.get(study).id
            return self.rows.add(id, study_id, launcher, workers, options, output=output, host=platform.node(), by=by)

    def gpus_per_trial(self, study: str, *, ended_too: bool = False) -> int:
        """Return how many GPUs a worker of a study needs.

        Raises:
            NotFoundError: there is no such study.
            StudyFailedError: it failed.
            ConflictError: it was paused, drained or cancelled, or it has finished.
        """
        with self.db.transaction(read_only=True):
            row = self.studies.get(study)
        if not ended_too:
            require_workable(study, row.state, row.reason)
            if row.state.final:
                raise ConflictError(f"study {study} is {row.state}: there is nothing left to launch workers for")
        return row.specification().execution.gpus_per_trial

    def get(self, id: str) -> LaunchRow:
        """Read one.

        Raises:
            NotFoundError: there is none of this id.
        """
        with self.db.transaction(read_only=True):
            return self.rows.get(id)

    def is_wanted(self, id: str) -> bool:
        """Whether workers of a launch are wanted; of one that is not there any more they are not."""
        with self.db.transaction(read_only=True):
            try:
                return self.rows.get(id).state is LaunchState.ACTIVE
            except NotFoundError:
                return False

    def list_all(self, study: str | None = None) -> list[LaunchedWorkers]:
        """Read the launches, of all studies or of one, in the order they were made.

        Raises:
            NotFoundError: there is no such study.
        """
        with self.db.transaction(read_only=True):
            study_id = None if study is None else self.studies.get(study).id
            now = self.db.clock()
            return [LaunchedWorkers(row, self.workers.of_launch(row.id), now) for row in self.rows.list(study_id)]

    def workers_of(self, id: str) -> LaunchedWorkers:
        """Read one launch with its workers.

        Raises:
            NotFoundError: there is none of this id.
        """
        with self.db.transaction(read_only=True):
            return LaunchedWorkers(self.rows.get(id), self.workers.of_launch(id), self.db.clock())

    def add_jobs(self, id: str, jobs: Sequence[str]) -> None:
        """Note what was submitted."""
        with self.db.transaction():
            self.rows.add_jobs(id, jobs)

    def scale(self, id: str, workers: int, by: str) -> LaunchRow:
        """Want another number of workers.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: it has ended.
        """
        with self.db.transaction():
            row = self.rows.get(id)
            if row.state is not LaunchState.ACTIVE:
                raise ConflictError(f"launch {id} is {row.state} ({row.reason}): launch workers anew")
            return self.rows.scale(id, workers, by)

    def cancel(self, id: str, reason: str, by: str) -> bool:
        """Want no workers any more; tell whether that is news.

        Raises:
            NotFoundError: there is none of this id.
        """
        with self.db.transaction():
            self.rows.get(id)
            return self.rows.end(id, LaunchState.CANCELLED, reason, by)

    def end(self, id: str, reason: str) -> None:
        """Note that nothing more is to be done for a launch."""
        with self.db.transaction():
            self.rows.end(id, LaunchState.ENDED, reason)

    def end_with_their_studies(self) -> list[LaunchRow]:
        """End the launches whose studies have ended, and return them."""
        with self.db.transaction(read_only=True):
            active = [row for row in self.rows.list() if row.state is LaunchState.ACTIVE]
            states = {row.study: self.studies.get(row.study).state for row in active}
        over = [row for row in active if states[row.study].final]
        for row in over:
            self.end(row.id, f"study {row.study} is {states[row.study]}")
        return over

    def take(self, id: str) -> LaunchRow:
        """Come to be the one who keeps a launch.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: another process gave a sign of life a moment ago.
        """
        with self.db.transaction():
            row, now = self.rows.get(id), self.db.clock()
            if row.seen_at is not None and now - row.seen_at < SILENT_SECONDS:
                raise ConflictError(
                    f"launch {id} is kept by a process on {row.host} that was heard of {now - row.seen_at:.0f} s ago: "
                    f"if it has ended, try again in {SILENT_SECONDS:g} s"
                )
            return self.rows.beat(id)

    def beat(self, id: str) -> LaunchRow:
        """Note that somebody keeps it, and read what is wanted."""
        with self.db.transaction():
            return self.rows.beat(id)

    def drain_workers(self, id: str, most: int, reason: str, by: str) -> int:
        """Tell up to so many of its workers to save and leave, the latest first; return how many were told."""
        with self.db.transaction():
            active = [row for row in self.workers.of_launch(id) if row.state is WorkerState.ACTIVE]
            for row in active[::-1][:most]:
                self.workers.drain(row.id, reason, by)
            return min(most, len(active))


def new_launch_id() -> str:
    """Return a name that no other launch has."""
    return secrets.token_hex(4)
