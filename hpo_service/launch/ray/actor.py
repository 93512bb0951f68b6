"""The actor that keeps one worker alive on a Ray cluster: what runs on its nodes."""

from __future__ import annotations

import logging
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpo_service.launch.launch import tail
from hpo_service.launch.pool import Place, WorkerPool

LOOK_SECONDS = 0.2
"""How often an actor looks at its worker."""
SPARE_SECONDS = 5.0
"""A worker that has not left so long after its time to save is ended."""
STOPPED = "the launch wants it no more"
"""Why a worker leaves that is not to be started again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """All that an actor knows: a worker's command and its environment. Trials and studies are the database's."""

    study: str
    storage: str = field(repr=False)
    output: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    log_prefix: str
    name: str
    drain_seconds: float
    command: tuple[str, ...] = ()


class WorkerActor:
    """Keeps one worker alive as a child process. Ray makes it anew on another node where its own is lost.

    Only its thread touches the worker: what comes from Ray or a signal is noted, and the thread obeys it.
    """

    def __init__(self, work: Work) -> None:
        """Start the worker."""
        self._work = work
        self._place = Place(work.name, dict(work.environment))
        self._pool = WorkerPool(
            work.study,
            work.storage,
            work.output,
            [self._place],
            command=(*_together(), *(work.command or (sys.executable, "-m", "hpo_service")), "worker"),
            arguments=work.arguments,
            log_prefix=work.log_prefix,
        )
        self._said = ""
        self._told = ""
        self._now = False
        self._heard = threading.Event()
        # what Ray sends to its processes where a node is taken down in an orderly way
        signal.signal(signal.SIGTERM, self._on_signal)
        self._thread = threading.Thread(target=self._keep, name="worker", daemon=True)
        self._thread.start()

    def state(self) -> tuple[str, str, str]:
        """Tell the machine, in a word how the worker is, and what happened to it last."""
        return platform.node(), "leaving" if self._told else "running", self._said

    def tail(self, lines: int) -> list[str]:
        """Return the last lines of the worker's log, under its name."""
        written = self._pool.log_of(self._place)
        return [f"==> {platform.node()}:{written} <==", *(tail(written, lines) if written.exists() else ())]

    def stop(self, now: bool = False) -> str:
        """Have the worker save and leave, or with `now` end it as it is; then the actor ends for good."""
        self._now = self._now or now
        self._told = STOPPED
        self._heard.set()
        return STOPPED

    def _on_signal(self, *_: object) -> None:
        self._told = self._told or "the node is taken down"
        self._heard.set()

    def _keep(self) -> None:
        try:
            self._watch()
        finally:  # an actor without a worker would hold its GPU for nothing
            self._leave()

    def _watch(self) -> None:
        self._pool.start()
        leave_by = math.inf
        while self._pool.alive:
            self._heard.wait(LOOK_SECONDS)
            self._heard.clear()
            if self._told and math.isinf(leave_by):
                # asks a worker to save and leave, however often it comes
                self._pool.signal(signal.SIGUSR1)
                leave_by = time.monotonic() + self._work.drain_seconds + SPARE_SECONDS
            if self._now or time.monotonic() > leave_by:
                self._pool.wait(0.0)
            for line in self._pool.watch():
                self._said = line
                log.warning("%s", line)

    def _leave(self) -> None:
        """End the actor: for good, unless its node is taken down and the worker may go on elsewhere."""
        import ray

        if self._told in ("", STOPPED):
            ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
        else:
            os._exit(1)


def _together() -> tuple[str, ...]:
    """What stands before a command line so that its process is asked to leave where the thread that started it dies.

    An actor that is killed tells its child nothing, which would go on with a GPU that Ray gives to somebody else.
    """
    if sys.platform != "linux":
        return ()
    # 1 is PR_SET_PDEATHSIG
    text = f"import ctypes, os, sys; ctypes.CDLL(None).prctl(1, {int(signal.SIGUSR1)}); "
    return (sys.executable, "-c", f"{text}os.execvp(sys.argv[1], sys.argv[1:])")
