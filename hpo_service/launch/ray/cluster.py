"""A Ray cluster, as whoever starts actors there and finds them again sees it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from hpo_service.errors import SchedulerError

ADDRESS = "RAY_ADDRESS"
"""Variable by which Ray finds its cluster."""
ANSWER_SECONDS = 8.0
"""How long actors may take to answer; who does not waits for its place, or is being started again."""
CONNECT_SECONDS = 5.0
"""How long the cluster's port may take to answer."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected with, and those of its actors that are in one namespace.

    Attributes:
        ray: Ray's module.
        namespace: of the actors.
    """

    ray: Any
    namespace: str

    @classmethod
    def connect(cls, address: str, namespace: str, known: str | None = None) -> Self:
        """Connect this process, unless it is already.

        Args:
            address: as people name it.
            namespace: of the actors.
            known: the `place` that it must be, where that was recorded; then RAY_ADDRESS may name the way to it.

        Raises:
            SchedulerError: Ray is not installed, the cluster does not answer, or it is another one.
        """
        try:
            import ray.util
        except ImportError:
            raise SchedulerError(
                "Ray is not installed here: pip install 'hpo-service[ray]', in the version that the cluster has, "
                "or see what would be submitted with --dry-run"
            ) from None
        found = cls(ray, namespace)
        if ray.is_initialized() and known not in (None, found.place):
            ray.shutdown()
        if not ray.is_initialized():
            found._reach((known and os.environ.get(ADDRESS)) or address)
        if known not in (None, found.place):
            raise SchedulerError(
                f"{namespace} is on the Ray cluster at {known}, and this is the one at {found.place}: "
                f"name the former with {ADDRESS}, or run this on one of its machines"
            )
        return found

    def _reach(self, address: str) -> None:
        try:
            _require_port(address)
            self.ray.init(address=address, namespace=self.namespace, log_to_driver=False, logging_level=logging.ERROR)
        except self.failures as error:
            raise SchedulerError(
                f"no Ray cluster can be reached at {address} ({first_line(error)}): run this on one of its machines, "
                f"or name it with --address or {ADDRESS}, from outside of it as ray://HEAD:10001"
            ) from error

    @property
    def place(self) -> str:
        """Its address, the same from everywhere."""
        return str(self.ray.get_runtime_context().gcs_address)

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What Ray raises."""
        return (self.ray.exceptions.RayError, OSError, RuntimeError, ValueError, ImportError)

    def require_room(self, needs: Mapping[str, float]) -> None:
        """Make sure that some node has what an actor needs, once it is free.

        Raises:
            SchedulerError: none has.
        """
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        needed = {name: amount for name, amount in needs.items() if amount}
        if any(all(has.get(name, 0) >= amount for name, amount in needed.items()) for has in nodes):
            return
        most = {name: max((has.get(name, 0) for has in nodes), default=0) for name in needed}
        raise SchedulerError(
            f"no node of the Ray cluster at {self.place} has what a worker needs, {_amounts(needed)} (at most "
            f"{_amounts(most)}): ask for less with --num-gpus (0 for workers on CPUs), --num-cpus or --resource, or "
            "with --autoscaling where the cluster starts nodes when they are asked for"
        )

    def make(self, kind: type, given: Mapping[str, object], **options: Any) -> None:
        """Make actors, each with what is given under its name; wait a while for the first word of each.

        Raises:
            SchedulerError: one could not be made; none is left.
        """
        actor = self.ray.remote(kind)
        made: dict[str, Any] = {}
        try:
            for name, argument in given.items():
                made[name] = actor.options(name=name, namespace=self.namespace, **options).remote(argument)
            # what was asked for is on its way only when somebody waits for it
            answers = self._answers({name: each.state.remote() for name, each in made.items()})
            for error in (answer for answer in answers.values() if isinstance(answer, Exception)):
                raise error
        except self.failures as error:
            for each in made.values():
                self.ray.kill(each, no_restart=True)
            raise SchedulerError(
                f"Ray could not start the workers ({first_line(error)}): the Python that Ray has on its nodes must "
                "have hpo-service, in this version"
            ) from error

    def actors(self) -> dict[str, Any]:
        """Handles of the actors that have not ended, by name.

        Raises:
            SchedulerError: the cluster does not answer.
        """
        found = {}
        try:
            for each in self.ray.util.list_named_actors(all_namespaces=True):
                if each["namespace"] == self.namespace:
                    with contextlib.suppress(ValueError):  # it ended meanwhile
                        found[each["name"]] = self.ray.get_actor(each["name"], namespace=self.namespace)
        except self.failures as error:
            raise SchedulerError(f"Ray does not answer ({first_line(error)}): try later") from error
        return found

    def ask(self, method: str, *arguments: object) -> dict[str, Any]:
        """Call a method of every actor: None stands for one that does not answer, an exception for one that cannot.

        Raises:
            SchedulerError: the cluster does not answer.
        """
        actors = self.actors()
        return self._answers({name: getattr(actors[name], method).remote(*arguments) for name in sorted(actors)})

    def _answers(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = dict.fromkeys(asked)
        refs = list(asked.values())
        done = self.ray.wait(refs, num_returns=len(refs), timeout=ANSWER_SECONDS)[0] if refs else []
        for name, ref in asked.items():
            if ref in done:
                try:
                    found[name] = self.ray.get(ref)
                except self.failures as error:
                    found[name] = error
        return found

    def end(self, names: list[str]) -> None:
        """End actors as they are.

        Raises:
            SchedulerError: the cluster does not answer.
        """
        for name, actor in self.actors().items():
            if name in names:
                self.ray.kill(actor, no_restart=True)


def _require_port(address: str) -> None:
    """Ask whether anything answers, for Ray itself waits long."""
    if found := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address):
        socket.create_connection((found[1], int(found[2])), CONNECT_SECONDS).close()


def first_line(error: Exception) -> str:
    """The first line of what Ray says; what follows is a traceback, or advice for Ray's own developers."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def _amounts(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in amounts.items())
