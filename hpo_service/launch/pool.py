"""Worker processes on this machine: one per GPU, or a few that share the CPU's cores; who dies is replaced."""

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
from typing import Self

import psutil

from hpo_service.domain.decide.parallel import parallel
from hpo_service.domain.memory.fit import MEMORY_SHARE
from hpo_service.domain.study.protocol import stages_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import (
    DatabaseFaultError,
    DatabaseUnavailableError,
    OutOfTimeError,
    ServedStudyFailedError,
    UnfitWorkerError,
)
from hpo_service.launch.devices import Gpu, list_gpus
from hpo_service.service.studies.checks import too_few_gpus
from hpo_service.settings import Settings
from hpo_service.wire.attempt_folder import log_folder
from hpo_service.wire.exit_status import how_it_ended
from hpo_service.wire.log_file import LogTail, cut

MAX_RESTARTS = 5
"""A worker that dies is started again this often; a worker's death loses no trial."""
RESTART_SECONDS = 1.0
"""Pause before the first restart, doubled with each further one: what killed a worker may take a while to pass."""
LONGEST_PAUSE_SECONDS = 32.0
HEALTHY_SECONDS = 600.0
"""A worker that ran for so long before it died was healthy: its earlier deaths are forgotten."""
COUNTS_AS = {
    DatabaseUnavailableError.exit_code: 0,
    UnfitWorkerError.exit_code: 4,
    DatabaseFaultError.exit_code: MAX_RESTARTS + 1,
}
"""How many deaths an end with this status counts as; 1 for any other.

An outage of the database is not the worker's; one that cannot work here gets one more chance, in case what it lacks
comes back; where the database is damaged or gone, another would end in the same way."""
DONE = (0, ServedStudyFailedError.exit_code, OutOfTimeError.exit_code)
"""Statuses of workers that have nothing left to do."""
TAIL_BYTES = 8192
"""How much of a worker's log is looked through for its last words."""
POLL_SECONDS = 0.2
"""How often `wait` looks around."""
CPU_WORKERS = 2
"""Workers on a machine without a GPU whose trials run one at a time, if it has that many cores."""


@dataclass(frozen=True)
class Place:
    """Where one worker runs: what it is called, which variables tie it to its device, and what people should know."""

    name: str
    environment: dict[str, str]
    note: str = ""


def plan_places(workers: int | None, gpus_per_trial: int = 1, *, side_by_side: bool = False) -> list[Place]:
    """Plan one worker per GPU or group of GPUs, or one or two on the CPU with the cores divided among them.

    Args:
        workers: a number asked for; more workers than GPUs share them in turn, each with its part of the memory.
        gpus_per_trial: GPUs of one worker, neighbours in the listing; on the CPU its processes, which share cores.
        side_by_side: one worker may train several trials at once: on the CPU it is faster with all cores than two are.

    Raises:
        HpoServiceError: this machine has GPUs, but not as many as one trial needs.
    """
    gpus = list_gpus()
    if gpus:
        whole = range(0, len(gpus) - gpus_per_trial + 1, gpus_per_trial)
        groups = [gpus[first : first + gpus_per_trial] for first in whole]
        if not groups:
            raise too_few_gpus(gpus_per_trial, len(gpus))
        count = workers or len(groups)
        # of a group that several workers share
        sharers = [len(range(place, count, len(groups))) for place in range(len(groups))]
        return [_on_gpus(f"gpu{i}", groups[i % len(groups)], sharers[i % len(groups)]) for i in range(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or (1 if side_by_side else max(1, min(CPU_WORKERS, cores // gpus_per_trial)))
    threads = str(max(1, cores // (count * gpus_per_trial)))
    return [Place(f"cpu{i}", {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}) for i in range(count)]


def _on_gpus(name: str, gpus: Sequence[Gpu], sharers: int) -> Place:
    """A worker on GPUs; where it is one of several there, each is told its share of their memory."""
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(gpu.index for gpu in gpus)}
    if sharers == 1:
        return Place(name, environment)
    # where a GPU does not tell its memory, it is the machine's
    smallest = min(gpu.memory_mib * 2**20 or psutil.virtual_memory().total for gpu in gpus)
    share = os.environ.get(MEMORY_SHARE) or f"{smallest / sharers / 1e9:.1f}"
    note = (
        f"worker {name} is one of {sharers} on GPU {environment['CUDA_VISIBLE_DEVICES']} and may use {share} GB of it"
    )
    return Place(name, {**environment, MEMORY_SHARE: share}, note)


@dataclass
class _Running:
    """One place and the process that works there at present.

    Attributes:
        restart_at: when a process that died is to be replaced; None while it runs or stays ended.
        ended: it is not started again.
        told: how many signals this process was sent.
        deaths: how many deaths there were, since one was healthy; some count more, or not at all.
        outages: how often in a row it ended because the database was away.
        since: when this process was started.
    """

    place: Place
    process: subprocess.Popen[bytes]
    since: float
    deaths: int = 0
    outages: int = 0
    restart_at: float | None = None
    ended: bool = False
    told: int = 0


def last_error(log: Path) -> str:
    """The last error that a command wrote into its log; empty where there is none."""
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = stream.read().decode("utf-8", "replace").splitlines()
        return next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), "")
    return ""


@dataclass
class WorkerPool:
    """Starts, watches and ends the workers of one `run` or launch; they live in sessions of their own.

    Attributes:
        study: what they serve.
        storage: URL of the database.
        output: folder of results.
        places: where they run.
        clock: monotonic seconds.
        command: what a worker is, behind which its arguments stand.
        arguments: of each worker, besides the study.
        log_prefix: how the names of their logs begin; by default with the study's name.
    """

    study: str
    storage: str
    output: Path
    places: Sequence[Place]
    clock: Callable[[], float] = time.monotonic
    command: Sequence[str] = (sys.executable, "-m", "hpo_service", "worker")
    arguments: Sequence[str] = ()
    log_prefix: str = ""
    _running: list[_Running] = field(default_factory=list)
    _signals: list[signal.Signals] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _tails: dict[str, LogTail] = field(default_factory=dict)

    @classmethod
    def plan(cls, spec: StudySpec, settings: Settings, workers: int | None) -> Self:
        """Plan the workers of a study for the devices of this machine.

        Raises:
            HpoServiceError: this machine has GPUs, but not as many as one trial needs.
        """
        first = stages_of(spec)[0]
        side_by_side = parallel(spec, first, first.trials(spec)).slots > 1
        places = plan_places(workers, spec.execution.gpus_per_trial, side_by_side=side_by_side)
        return cls(spec.name, settings.storage, settings.output, places)

    def start(self) -> None:
        """Start every worker."""
        self.add(self.places)

    def add(self, places: Sequence[Place]) -> list[int]:
        """Start a worker in each of these places, as if none had been there; return the processes."""
        started: list[int] = []
        self._lines += [place.note for place in places if place.note]
        for place in places:
            if not self._signals:
                self._tails.setdefault(place.name, LogTail(self.log_of(place)))
                worker = _Running(place, self._spawn(place), self.clock())
                self._running = [other for other in self._running if other.place.name != place.name] + [worker]
                self._pass_on()
                started.append(worker.process.pid)
        return started

    def _spawn(self, place: Place) -> subprocess.Popen[bytes]:
        command = [*self.command, "--study", self.study, "--until-finished", *self.arguments]
        log = self.log_of(place)
        log.parent.mkdir(parents=True, exist_ok=True)
        # The storage URL may hold a password: it travels in the environment, not on the command line.
        environment = {
            **os.environ,
            **place.environment,
            "HPO_SERVICE_STORAGE": self.storage,
            "HPO_SERVICE_OUTPUT": str(self.output),
        }
        with log.open("ab") as stream:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,
            )

    @property
    def logs(self) -> str:
        """The folder of the workers' own logs."""
        return str(log_folder(self.output))

    def log_of(self, place: Place) -> Path:
        """Where a worker's own log is written."""
        return log_folder(self.output) / f"{self.log_prefix or self.study}-{place.name}.log"

    def said(self) -> list[str]:
        """What workers wrote to their logs since the last call, each line behind the worker's name."""
        return [f"{name}: {line}" for name, tail in self._tails.items() for line in tail.lines()]

    def watch(self) -> list[str]:
        """Restart workers that died, after a pause; return a line for each that died or came back.

        The first time also what people should know of the places.
        """
        lines, self._lines = self._lines, []
        lines += [line for worker in list(self._running) if (line := self._look_after(worker))]
        self._pass_on()
        return lines

    def _look_after(self, worker: _Running) -> str | None:
        cut(self.log_of(worker.place))
        code = worker.process.poll()
        if code is None or worker.ended:
            return None
        name = f"worker {worker.place.name}"
        if worker.restart_at is not None:
            if self.clock() < worker.restart_at:
                return None
            # one assignment, so that a signal handler finds either the old process or the new one
            self._running[self._running.index(worker)] = _Running(
                worker.place, self._spawn(worker.place), self.clock(), worker.deaths, worker.outages
            )
            return f"{name} was started again"
        if code in DONE:
            worker.ended = True
            return None
        why = self._why(worker.place, code)
        pause = self._count(worker, code)
        if pause is None:
            worker.ended = True
            return f"{name} ended for good: {why}"
        worker.restart_at = self.clock() + pause
        return f"{name} {why}: it is started again in {pause:g} s"

    def _count(self, worker: _Running, code: int) -> float | None:
        """Count the end of a worker; return the pause until it is started again, None where it has died too often."""
        if self.clock() - worker.since >= HEALTHY_SECONDS:
            worker.deaths = worker.outages = 0
        weight = COUNTS_AS.get(code, 1)
        before = worker.deaths if weight else worker.outages
        if weight and before + weight > MAX_RESTARTS:
            return None
        worker.deaths += weight
        worker.outages = 0 if weight else worker.outages + 1
        return min(LONGEST_PAUSE_SECONDS, RESTART_SECONDS * 2.0 ** (before + max(0, weight - 1)))

    def _why(self, place: Place, code: int) -> str:
        """How a worker ended, in its own last words where it left for a reason that it gave."""
        log = self.log_of(place)
        if code == UnfitWorkerError.exit_code and (words := last_error(log)):
            return f"left: {words}"
        return f"{how_it_ended(code)}, see {log}"

    @property
    def alive(self) -> int:
        """Workers that are running, or whose end `watch` has yet to look at or to answer with a new start."""
        return len(self._unfinished())

    @property
    def occupied(self) -> set[str]:
        """Names of the places in which a worker is alive."""
        return {worker.place.name for worker in self._unfinished()}

    def _unfinished(self) -> list[_Running]:
        return [worker for worker in self._running if not worker.ended or worker.process.poll() is None]

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [worker.process for worker in self._running if worker.process.poll() is None]

    def signal(self, number: signal.Signals) -> None:
        """Pass a signal on to every worker that is running; none is started again. Fit for a signal handler."""
        self._signals.append(number)
        self._pass_on()

    def _pass_on(self) -> None:
        """Send each process every signal once: also to one that was being started when the signal came."""
        for worker in self._running:
            worker.ended = worker.ended or bool(self._signals)
            while worker.told < len(self._signals):
                worker.told += 1
                with contextlib.suppress(ProcessLookupError):
                    worker.process.send_signal(self._signals[worker.told - 1])

    def wait(self, seconds: float, tick: Callable[[], None] = lambda: None) -> bool:
        """Wait for all workers to end, calling `tick` meanwhile; kill those that have not after `seconds`.

        Returns:
            Whether all ended by themselves.
        """
        deadline = self.clock() + seconds
        while (running := self._processes()) and self.clock() < deadline:
            tick()
            with contextlib.suppress(subprocess.TimeoutExpired):
                running[0].wait(POLL_SECONDS)
        late = self._processes()
        for process in late:
            process.kill()
            process.wait()
        return not late
