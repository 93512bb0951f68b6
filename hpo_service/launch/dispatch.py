"""From a wish for workers to a launch: written down, submitted, found again by the record, steered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpo_service.errors import ConflictError, SchedulerError
from hpo_service.launch.launch import Job, Launch
from hpo_service.launch.launch_view import LaunchView, launch_view
from hpo_service.launch.launcher import LAUNCHERS, Launcher
from hpo_service.launch.options import LaunchOptions
from hpo_service.service.launches import Launches, LaunchRow, new_launch_id
from hpo_service.service.workers import WorkerState
from hpo_service.settings import Settings


@dataclass(frozen=True)
class Draft:
    """A launch that was not started yet.

    Attributes:
        launcher: its launcher's name.
        launch: what it is to be.
        workers: how many it starts with, at most.
    """

    launcher: str
    launch: Launch[LaunchOptions]
    workers: int

    @property
    def text(self) -> str:
        """Exactly what would be submitted."""
        return LAUNCHERS[self.launcher](self.launch).plan(self.workers)


@dataclass(frozen=True)
class Dispatch:
    """Starts launches and steers them. What it needs to know of one is in the database, and with its scheduler."""

    launches: Launches
    settings: Settings

    def draft(self, launcher: str, study: str, given: Mapping[str, Any]) -> Draft:
        """Think a launch through; nothing is written or started.

        Raises:
            NotFoundError: there is no such study.
            UsageError: options are wrong.
            ConflictError: the study has ended.
            HpoServiceError: its trials do not fit there.
        """
        options = LAUNCHERS[launcher].options.read(given)
        gpus = self.launches.gpus_per_trial(study)
        launch = Launch(new_launch_id(), study, options, self.settings, gpus)
        return Draft(launcher, launch, options.workers or LAUNCHERS[launcher](launch).workers)

    def record(self, draft: Draft, by: str) -> LaunchRow:
        """Write a launch down; from here on it can be steered from anywhere."""
        launch = draft.launch
        return self.launches.add(
            launch.id,
            launch.study,
            draft.launcher,
            draft.workers,
            launch.options.model_dump(),
            output=str(launch.settings.output),
            by=by,
        )

    def launcher_of(self, row: LaunchRow) -> Launcher:
        """Return the launcher of a launch, as its record says.

        Raises:
            ConflictError: another version launched it, by a launcher that this one does not have.
        """
        if row.launcher not in LAUNCHERS:
            raise ConflictError(
                f"launch {row.id} was made by the launcher {row.launcher!r}, which this version does not have: "
                "use the version that launched it"
            )
        kind = LAUNCHERS[row.launcher]
        known = kind.options.model_fields
        options = kind.options.read({name: value for name, value in row.options.items() if name in known})
        settings = replace(self.settings, output=Path(row.output))
        gpus = self.launches.gpus_per_trial(row.study, ended_too=True)
        return kind(Launch(row.id, row.study, options, settings, gpus, tuple(row.jobs)))

    def begin(self, row: LaunchRow) -> list[str]:
        """Have all workers of a launch started that nobody keeps; return as what.

        Raises:
            SchedulerError: the scheduler refused; the launch has ended.
        """
        try:
            return self.submit(self.launcher_of(row), row.id, row.workers)
        except SchedulerError as error:
            self.launches.end(row.id, str(error))
            raise

    def submit(self, launcher: Launcher, id: str, workers: int) -> list[str]:
        """Have so many more workers started, and note as what; return it.

        Raises:
            SchedulerError: the scheduler refused.
        """
        jobs = launcher.submit(workers)
        self.launches.add_jobs(id, jobs)
        return jobs

    def jobs_of(self, row: LaunchRow) -> list[Job]:
        """Ask the scheduler what of a launch runs or waits; of one that its own process keeps, that one knows."""
        kind = LAUNCHERS.get(row.launcher)
        return [] if kind is None or kind.keeps else self.launcher_of(row).jobs()

    def look(self, study: str | None = None) -> list[LaunchView]:
        """Read launches, of all studies or of one, and ask their schedulers; those of ended studies have ended.

        Raises:
            NotFoundError: there is no such study.
        """
        for row in self.launches.end_with_their_studies():
            self.launcher_of(row).settle()
        return [launch_view(launched, self.jobs_of) for launched in self.launches.list_all(study)]

    def scale(self, id: str, workers: int, by: str) -> str:
        """Want another number of workers; return what was done about it.

        Raises:
            NotFoundError: there is no such launch.
            ConflictError: it has ended.
        """
        row = self.launches.scale(id, workers, by)
        launcher = self.launcher_of(row)
        if launcher.keeps or row.options.get("until_done"):
            return "the process that keeps it sees to that"
        there = sum(job.workers for job in launcher.jobs())
        if workers > there:
            return f"submitted {', '.join(self.submit(launcher, id, workers - there))}"
        withdrawn = launcher.withdraw(there - workers)
        told = self.launches.drain_workers(id, there - workers - withdrawn, f"{workers} workers wanted", by)
        return f"{withdrawn} that waited were taken back, {told} that run were told to leave"

    def cancel(self, id: str, reason: str, by: str, *, now: bool = False) -> None:
        """End a launch: what waits does not start, workers save and leave.

        Raises:
            NotFoundError: there is no such launch.
            SchedulerError: the scheduler cannot be asked from here; workers were told to leave all the same.
        """
        self.launches.cancel(id, reason, by)
        launcher = self.launcher_of(self.launches.get(id))
        if launcher.keeps:
            # should the process that keeps it be gone, its workers obey the database
            self._drain_all(id, reason, by)
            return
        try:
            launcher.cancel(now=now)
        except SchedulerError as error:
            self._drain_all(id, reason, by)
            raise SchedulerError(
                f"{error}. Launch {id} is cancelled in the database: its workers save and leave, "
                "those that start later leave at once"
            ) from error

    def _drain_all(self, id: str, reason: str, by: str) -> None:
        active = self.launches.workers_of(id).count(WorkerState.ACTIVE)
        self.launches.drain_workers(id, active, reason, by)
