"""Launches as they are shown: the record, what the scheduler says now, and the workers that came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def launch_views(found: Iterable[LaunchedWorkers], jobs_of: Callable[[LaunchRow], list[Job]]) -> list[LaunchView]:
    """Ask each scheduler about its launches; one that cannot be asked costs its own launches' jobs alone.

    Of a launch that ended and whose workers have left, nobody is asked.
    """
    return [_view(launched, jobs_of) for launched in found]


def _view(launched: LaunchedWorkers, jobs_of: Callable[[LaunchRow], list[Job]]) -> LaunchView:
    here = launched.count(WorkerState.ACTIVE, WorkerState.DRAINING)
    if launched.launch.state is not LaunchState.ACTIVE and not here:
        return LaunchView(launched)
    try:
        return LaunchView(launched, jobs_of(launched.launch))
    except HpoServiceError as error:
        return LaunchView(launched, problem=str(error))
