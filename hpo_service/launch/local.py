"""Workers on this machine: processes that the launching process starts, looks after and ends."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from hpo_service.launch.launch import Job, Launch
from hpo_service.launch.options import LaunchOptions
from hpo_service.launch.pool import Place, WorkerPool, plan_places

PLACE = "HPO_SERVICE_PLACE"
"""Variable in which a worker finds what its place is called."""

ABORT_SECONDS = 5.0
"""How long workers may take to leave that were told to leave at once."""


class LocalOptions(LaunchOptions):
    """This machine needs to be told nothing more."""


class Local:
    """The workers of one launch, one per GPU or group of GPUs, or a few on the CPU.

    They live as long as the process that started them: `jobs` of another process knows none.
    """

    options: ClassVar[type[LaunchOptions]] = LocalOptions
    title: ClassVar[str] = "Start workers on this machine, one per GPU."
    examples: ClassVar[tuple[str, ...]] = (
        "hpo-service launch local mine",
        "hpo-service launch local mine --workers 4 --detach",
        "hpo-service launch local mine --dry-run",
    )
    keeps: ClassVar[bool] = True

    def __init__(self, launch: Launch[LaunchOptions], clock: Callable[[], float] = time.monotonic) -> None:
        """Take charge of a launch."""
        self._launch = launch
        self._clock = clock
        self._leave_by: float | None = None
        settings = launch.settings
        self._pool = WorkerPool(
            launch.study,
            settings.storage,
            settings.output,
            [],
            arguments=launch.options.worker_arguments,
            log_prefix=launch.log_prefix,
        )

    @property
    def workers(self) -> int:
        """One per GPU or group of GPUs; on the CPU one or two."""
        return len(plan_places(None, self._launch.gpus_per_trial))

    def plan(self, workers: int) -> str:
        """A shell's line for each worker."""
        lines = []
        for place in self._places(workers):
            variables = [f"{name}={shlex.quote(value)}" for name, value in place.environment.items()]
            log = shlex.quote(str(self._pool.log_of(place)))
            lines.append(f"{' '.join(variables)} {shlex.join(self._launch.own_command)} >>{log} 2>&1 &\n")
        return "".join(lines)

    def submit(self, workers: int) -> list[str]:
        """Start so many more, in places that are free."""
        taken = self._pool.occupied
        # as many as there may be: who shares a GPU must know it from the start
        meant = max(self._launch.options.workers or self.workers, len(taken) + workers)
        free = [place for place in self._places(meant) if place.name not in taken][:workers]
        return [str(pid) for pid in self._pool.add(free)]

    def jobs(self) -> list[Job]:
        """The processes that this one has started and that run, or are about to be started again."""
        return [Job(name, "running", place=os.uname().nodename) for name in sorted(self._pool.occupied)]

    def tick(self) -> list[str]:
        """Start workers again that died, after a pause; end those that were to leave and have not in time."""
        if self._leave_by is not None and self._clock() > self._leave_by and not self._pool.wait(0.0):
            return ["workers that did not leave in time were ended; their trials are taken up again later"]
        return self._pool.watch()

    def withdraw(self, workers: int) -> int:  # noqa: ARG002
        """None waits to be started."""
        return 0

    def logs(self, lines: int) -> Iterator[str]:
        """The last lines of each worker's log."""
        return self._launch.tails(lines)

    def cancel(self, *, now: bool = False) -> None:
        """Tell the workers to save and leave, or once more to leave at once; `tick` ends those that do not."""
        for _ in range(2 if now else 1):
            self._pool.signal(signal.SIGTERM)
        patience = ABORT_SECONDS if now else self._launch.options.drain_seconds + ABORT_SECONDS
        self._leave_by = self._clock() + patience

    def settle(self) -> None:
        """Nothing was kept."""

    @staticmethod
    def here(environment: Mapping[str, str]) -> str | None:
        """Name the place."""
        place = environment.get(PLACE)
        return f"local {place}" if place else None

    def _places(self, workers: int) -> list[Place]:
        shared = self._launch.environment
        planned = plan_places(workers, self._launch.gpus_per_trial)
        return [replace(each, environment={**each.environment, **shared, PLACE: each.name}) for each in planned]
