"""Workers on a Ray cluster that exists: an actor for each, found again by the launch's name."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from hpo_service.errors import NotFoundError, UsageError
from hpo_service.launch.launch import Job, Launch
from hpo_service.launch.options import LaunchOptions, Line
from hpo_service.launch.ray.actor import STOPPED, Work, WorkerActor
from hpo_service.launch.ray.cluster import Cluster, first_line

ACTOR = "HPO_SERVICE_RAY_ACTOR"
"""Variable in which a worker finds the name of the actor that keeps it."""


class RayOptions(LaunchOptions):
    """What may be asked of a Ray cluster."""

    address: Line = Field(
        default="auto",
        min_length=1,
        description="The cluster, e.g. ray://head:10001 from outside of it or 10.0.0.1:6379; `auto` is RAY_ADDRESS or "
        "the one that this machine is of.",
    )
    num_gpus: int | None = Field(
        default=None,
        ge=0,
        description="GPUs of each worker; by default what a trial needs, 0 for workers on CPUs.",
    )
    num_cpus: int = Field(default=1, ge=1, description="CPUs of each worker, which are also its threads.")
    resource: list[Line] = Field(
        default=[],
        description="Another resource of each worker as Ray counts it, e.g. accelerator_type:A100=0.001; "
        "may be repeated.",
    )
    command: Line | None = Field(
        default=None,
        description="How hpo-service is started there; by default with the Python that Ray has on the node.",
    )
    autoscaling: bool = Field(
        default=False,
        description="The cluster starts nodes when they are asked for: ask also where none has room now.",
    )

    @field_validator("resource")
    @classmethod
    def _amounts(cls, given: list[str]) -> list[str]:
        for each in given:
            if not re.fullmatch(r"[^=]+=\d+(\.\d+)?", each):
                raise ValueError(f"{each!r} is not NAME=NUMBER")
        return given

    @property
    def resources(self) -> dict[str, float]:
        """Other resources of each worker."""
        return {name: float(amount) for name, amount in (each.split("=") for each in self.resource)}


class Ray:
    """The actors of one launch: they bear its name as their namespace, by which they are found again."""

    options: ClassVar[type[LaunchOptions]] = RayOptions
    title: ClassVar[str] = "Start workers on a Ray cluster, an actor for each."
    examples: ClassVar[tuple[str, ...]] = (
        "hpo-service launch ray mine --workers 16 --dry-run",
        "hpo-service launch ray mine --workers 16 --address ray://head:10001",
        "hpo-service launch ray mine --max 16 --until-done --detach --num-gpus 0 --num-cpus 4",
    )
    keeps: ClassVar[bool] = False

    def __init__(self, launch: Launch[RayOptions]) -> None:
        """Take charge of a launch."""
        self._launch = launch
        self._options = launch.options

    @property
    def workers(self) -> int:
        """There is no number that suits every cluster."""
        raise UsageError("say how many workers Ray is to start: --workers N")

    def plan(self, workers: int) -> str:
        """What Ray is asked for, as JSON; of the secrets the names."""
        work = self._work(self._name(0))
        plan = {
            "address": self._options.address,
            "namespace": self._launch.name,
            "actors": [self._name(number) for number in range(workers)],
            "options": self._actor_options,
            "command": shlex.join([*(work.command or ("python", "-m", "hpo_service")), *self._launch.worker]),
            "environment": self._launch.environment,
            "secrets": sorted(self._launch.secrets),
        }
        return json.dumps(plan, indent=2) + "\n"

    def submit(self, workers: int) -> list[str]:
        """Have the actors made; return their names, the first and the last, and where."""
        cluster = self._cluster()
        if not self._options.autoscaling:
            cluster.require_room(self._needs)
        first = 1 + max((int(name.rpartition("-")[2]) for name in cluster.actors()), default=-1)
        names = [self._name(number) for number in range(first, first + workers)]
        cluster.make(WorkerActor, {name: self._work(name) for name in names}, **self._actor_options)
        several = f"..{first + workers - 1}" if workers > 1 else ""
        return [f"{names[0]}{several}@{cluster.place}"]

    def jobs(self) -> list[Job]:
        """Ask the actors; those that do not answer wait for their place, or are being started again."""
        return [_job(name, answer) for name, answer in self._cluster().ask("state").items()]

    def tick(self) -> list[str]:
        """The actors look after their workers."""
        return []

    def withdraw(self, workers: int) -> int:
        """End actors that wait for their place."""
        cluster = self._cluster()
        waiting = [name for name, answer in cluster.ask("state").items() if answer is None][:workers]
        cluster.end(waiting)
        return len(waiting)

    def logs(self, lines: int) -> Iterator[str]:
        """The last lines of each worker's log, from the output folder, or where it is not here from the actors."""
        try:
            yield from self._launch.tails(lines)
        except NotFoundError:
            said = [answer for answer in self._cluster().ask("tail", lines).values() if isinstance(answer, list)]
            if not said:
                raise
            for each in said:
                yield from each

    def cancel(self, *, now: bool = False) -> None:
        """Tell the actors; those that do not answer have no worker to tell, and are ended."""
        cluster = self._cluster()
        cluster.end([name for name, answer in cluster.ask("stop", now).items() if answer != STOPPED])

    def settle(self) -> None:
        """Nothing was kept."""

    @staticmethod
    def here(environment: Mapping[str, str]) -> str | None:
        """Name the actor."""
        actor = environment.get(ACTOR)
        return f"ray {actor}" if actor else None

    # --- the actors --------------------------------------------------------------------------------------------

    @property
    def _needs(self) -> dict[str, float]:
        """What a worker takes of its node, as Ray counts it."""
        asked = self._options.num_gpus
        gpus = self._launch.gpus_per_trial if asked is None else asked
        return {"GPU": gpus, "CPU": self._options.num_cpus, **self._options.resources}

    @property
    def _actor_options(self) -> dict[str, Any]:
        needs = self._needs
        return {
            "lifetime": "detached",
            "max_restarts": -1,
            "num_gpus": needs.pop("GPU"),
            "num_cpus": needs.pop("CPU"),
            "resources": needs,
        }

    def _work(self, name: str) -> Work:
        launch = self._launch
        return Work(
            study=launch.study,
            storage=launch.settings.storage,
            output=launch.settings.output,
            arguments=tuple(launch.options.worker_arguments),
            environment={**launch.environment, **launch.secrets, ACTOR: name},
            log_prefix=launch.log_prefix,
            name=name.rpartition("-")[2],
            drain_seconds=launch.options.drain_seconds,
            command=tuple(shlex.split(self._options.command or "")),
        )

    def _name(self, number: int) -> str:
        return f"{self._launch.name}-{number}"

    def _cluster(self) -> Cluster:
        """The cluster that the launch is on, or is to be on."""
        known = next((place for job in self._launch.jobs if (place := job.partition("@")[2])), None)
        return Cluster.connect(self._options.address, self._launch.name, known)


def _job(name: str, answer: Any) -> Job:
    """What an actor's answer says, or that there is none."""
    if answer is None:
        return Job(name, "pending")
    if isinstance(answer, Exception):
        return Job(name, "failed", detail=first_line(answer))
    host, state, said = answer
    return Job(name, state, place=host, detail=said)
