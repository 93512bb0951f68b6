"""Workers on this machine: one process per GPU, or a few that share the CPU's cores."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpo_service.launch.devices import list_gpus

MAX_RESTARTS = 5
"""A worker that dies is started again this often; a worker's death loses no trial."""
CPU_WORKERS = 2
"""Workers on a machine without a GPU, if it has that many cores."""


@dataclass(frozen=True)
class Place:
    """Where one worker runs: what it is called and which variables tie it to its device."""

    name: str
    environment: dict[str, str]


def plan_places(workers: int | None) -> list[Place]:
    """Plan one worker per GPU, or up to two on the CPU with the cores divided among them.

    Args:
        workers: a number asked for; more workers than GPUs share them in turn.
    """
    gpus = list_gpus()
    if gpus:
        count = workers or len(gpus)
        return [Place(f"gpu{i}", {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)].index}) for i in range(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or min(CPU_WORKERS, cores)
    threads = str(max(1, cores // count))
    return [Place(f"cpu{i}", {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}) for i in range(count)]


@dataclass
class _Running:
    place: Place
    process: subprocess.Popen[bytes]
    restarts: int = 0
    ended: bool = False


@dataclass
class LocalWorkers:
    """Starts, watches and ends the workers of one `run`; they live in sessions of their own."""

    study: str
    storage: str
    output: Path
    places: Sequence[Place]
    clock: Callable[[], float] = time.monotonic
    _running: list[_Running] = field(default_factory=list)

    def start(self) -> None:
        """Start every worker."""
        self._running = [_Running(place, self._spawn(place)) for place in self.places]

    def _spawn(self, place: Place) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "hpo_service", "worker", "--study", self.study, "--until-finished"]
        log = self.output / "logs" / f"{self.study}-{place.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        # The storage URL may hold a password: it travels in the environment, not on the command line.
        environment = {
            **os.environ,
            **place.environment,
            "HPO_SERVICE_STORAGE": self.storage,
            "HPO_SERVICE_OUTPUT": str(self.output),
        }
        with log.open("ab") as stream:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,
            )

    def log_of(self, place: Place) -> Path:
        """Where a worker's own log is written."""
        return self.output / "logs" / f"{self.study}-{place.name}.log"

    def watch(self) -> list[str]:
        """Restart workers that died; return a line for each that did, and leave those alone that died too often."""
        lines = []
        for worker in self._running:
            code = worker.process.poll()
            if code is None or worker.ended:
                continue
            if code == 0 or worker.restarts >= MAX_RESTARTS:
                worker.ended = True
                if code != 0:
                    lines.append(f"worker {worker.place.name} ended for good, see {self.log_of(worker.place)}")
                continue
            worker.restarts += 1
            worker.process = self._spawn(worker.place)
            lines.append(f"worker {worker.place.name} ended with status {code} and was started again")
        return lines

    @property
    def alive(self) -> int:
        """Workers that are running."""
        return sum(worker.process.poll() is None for worker in self._running)

    def signal(self, number: signal.Signals) -> None:
        """Pass a signal on to every worker that is running."""
        for worker in self._running:
            worker.ended = True
            if worker.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    worker.process.send_signal(number)

    def wait(self, seconds: float, tick: Callable[[], None] = lambda: None) -> bool:
        """Wait for all workers to end, calling `tick` meanwhile; kill those that have not after `seconds`.

        Returns:
            Whether all ended by themselves.
        """
        deadline = self.clock() + seconds
        while self.alive and self.clock() < deadline:
            tick()
            with contextlib.suppress(subprocess.TimeoutExpired):
                next(w for w in self._running if w.process.poll() is None).process.wait(0.2)
        late = [worker for worker in self._running if worker.process.poll() is None]
        for worker in late:
            worker.process.kill()
            worker.process.wait()
        return not late
