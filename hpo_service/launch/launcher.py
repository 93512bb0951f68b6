"""What has workers run somewhere and finds them again: a protocol, and a table of those that follow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Protocol

from hpo_service.errors import UsageError
from hpo_service.launch.kubernetes.launcher import Kubernetes
from hpo_service.launch.launch import Job, Launch
from hpo_service.launch.local import Local
from hpo_service.launch.options import LaunchOptions
from hpo_service.launch.ray.launcher import Ray
from hpo_service.launch.slurm import Slurm


class Launcher(Protocol):
    """The workers of one launch, where something keeps processes alive: a scheduler, or this machine.

    Workers pull their trials from the database by themselves: a launcher has them started and ended, and knows
    nothing of trials. Whatever becomes of a worker, no trial is lost. It is made anew from the database's record by
    every command, on any machine: it keeps nothing in memory that it needs, and finds its jobs by the launch's name.
    """

    options: ClassVar[type[LaunchOptions]]
    """What may be asked of it: its fields become options of `hpo-service launch NAME`."""
    title: ClassVar[str]
    """What it does, in one line."""
    examples: ClassVar[tuple[str, ...]]
    """Command lines for its help."""
    keeps: ClassVar[bool]
    """Whether workers live only as long as the process that started them, which therefore stays."""

    def __init__(self, launch: Launch[LaunchOptions]) -> None:
        """Take charge of a launch."""

    @property
    def workers(self) -> int:
        """How many workers are meant where no number was given.

        Raises:
            HpoServiceError: its trials do not fit there, or the number must be given.
        """

    def plan(self, workers: int) -> str:
        """Write down exactly what would be submitted for so many workers; nothing is, and no secret is in it."""

    def submit(self, workers: int) -> list[str]:
        """Have so many more workers started; return what the scheduler calls what was submitted.

        Raises:
            SchedulerError: it refused, and nothing of this call was submitted.
        """

    def jobs(self) -> list[Job]:
        """List what of this launch runs or waits.

        Raises:
            SchedulerError: it cannot be asked.
        """

    def tick(self) -> list[str]:
        """Look after workers where that is the launcher's to do; return a line for people for all that happened."""

    def withdraw(self, workers: int) -> int:
        """Take back up to so many workers that have not started yet; return how many that were."""

    def logs(self, lines: int) -> Iterator[str]:
        """The last lines that each worker wrote."""

    def cancel(self, *, now: bool = False) -> None:
        """End it all: what waits does not start, workers save and leave; with `now` they are ended as they are."""

    def settle(self) -> None:
        """Put away what was only needed while workers might start: the study has ended."""

    @staticmethod
    def here(environment: Mapping[str, str]) -> str | None:
        """Name the job that a process with these variables is, as people know it; None where it is none of these."""


LAUNCHERS: dict[str, type[Launcher]] = {"local": Local, "ray": Ray, "slurm": Slurm, "kubernetes": Kubernetes}
"""By name. A new one is a file or folder here and a row, before those inside which it may run itself."""


STOP_AT = "HPO_SERVICE_STOP_AT"
"""Variable with the time, in seconds since 1970, at which a worker is to have saved and left."""


def seconds_left(environment: Mapping[str, str], now: float) -> float | None:
    """How long a worker with these variables may stay; None where nothing limits it.

    Raises:
        UsageError: the time is no number.
    """
    given = environment.get(STOP_AT)
    if not given:
        return None
    try:
        return max(0.0, float(given) - now)
    except ValueError:
        raise UsageError(f"{STOP_AT} is {given!r}: give seconds since 1970, or unset it") from None


def job_here(environment: Mapping[str, str]) -> str | None:
    """Name the scheduler's job that a process with these variables is; None where it is none."""
    return next((job for each in LAUNCHERS.values() if (job := each.here(environment)) is not None), None)
