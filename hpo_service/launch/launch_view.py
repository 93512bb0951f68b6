"""Launches as they are shown: the record, what the scheduler says now, and the workers that came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hpo_service.errors import HpoServiceError
from hpo_service.launch.launch import Job
from hpo_service.service.launches import LaunchedWorkers, LaunchRow, LaunchState
from hpo_service.service.workers import WorkerState


@dataclass(frozen=True)
class LaunchView:
    """One launch.

    Attributes:
        launched: its record and its workers.
        jobs: what its scheduler runs or has in its queue.
        problem: why that could not be told; empty where it was.
    """

    launched: LaunchedWorkers
    jobs: list[Job] = field(default_factory=list)
    problem: str = ""

    @property
    def row(self) -> LaunchRow:
        """Its record."""
        return self.launched.launch

    @property
    def running(self) -> int:
        """Workers that give signs of life."""
        return self.launched.count(WorkerState.ACTIVE, WorkerState.DRAINING)


def launch_view(launched: LaunchedWorkers, jobs_of: Callable[[LaunchRow], list[Job]]) -> LaunchView:
    """Ask the scheduler about a launch; where it cannot be asked the rest is shown all the same.

    Of a launch that ended and whose workers have left, nobody is asked.
    """
    here = launched.count(WorkerState.ACTIVE, WorkerState.DRAINING)
    if launched.launch.state is not LaunchState.ACTIVE and not here:
        return LaunchView(launched)
    try:
        return LaunchView(launched, jobs_of(launched.launch))
    except HpoServiceError as error:
        return LaunchView(launched, problem=str(error))
