"""A fleet of real worker processes on one machine, and what may be done to it."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil

from hpo_service import failpoint
from hpo_service.cli import main

HERE = Path(__file__).parent
# Dozens of processes are started here for what they do: unit and acceptance tests measure their lines.
UNMEASURED = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


def _nursery() -> ForkServerContext:
    """Processes are forked off one that has imported everything: sixty-four of them would import for a minute."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hpo_service.cli", "hpo_service.bootstrap", "psycopg"])
    return context


NURSERY = _nursery()


def _be_worker(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Become what `hpo-service worker` is when it is started in a session, with variables and a log, of its own."""
    os.setsid()
    # the nursery's own is that of the test which started it, maybe long ago
    os.environ.clear()
    os.environ.update(environment)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(written, 1)
    os.dup2(written, 2)
    # a label to die at is read when the module is imported, which was in the nursery
    importlib.reload(failpoint)
    main(arguments)


class Worker:
    """A worker process, spoken to as to a Popen."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        kept = {name: os.environ.pop(name) for name in UNMEASURED if name in os.environ}
        try:
            self._process = NURSERY.Process(target=_be_worker, args=(arguments, dict(environment), log))
            self._process.start()
        finally:
            os.environ.update(kept)

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end."""
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self._process.kill()


@dataclass
class Fleet:
    """Worker processes of one study (of all, where it is ""); any of them may be killed, frozen or replaced."""

    storage: str
    output: Path
    study: str
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)
    started: int = 0

    def start(
        self,
        count: int,
        failpoint: str = "",
        extra: tuple[str, ...] = (),
        *,
        everything: bool = False,
        **variables: str,
    ) -> list[Worker]:
        """Start workers; with a failpoint they kill themselves when they reach it, else they may serve every study."""
        study = "" if everything else self.study
        variables = {"HPO_SERVICE_FAILPOINT": failpoint, **variables}
        new = [self._spawn(study, extra, variables) for _ in range(count)]
        self.workers += new
        return new

    def _spawn(self, study: str, extra: tuple[str, ...], variables: Mapping[str, str]) -> Worker:
        self.started += 1
        environment = {
            **{name: value for name, value in os.environ.items() if name not in UNMEASURED},
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),  # the package beside these tests first
            "OMP_NUM_THREADS": "1",
            "HPO_SERVICE_STORAGE": self.storage,
            "HPO_SERVICE_OUTPUT": str(self.output),
            **self.environment,
            **variables,
        }
        served = ["--study", study] if study else []
        self.output.mkdir(parents=True, exist_ok=True)
        return Worker(["worker", *served, "--until-finished", *extra], environment, self.output / "workers.log")

    @property
    def alive(self) -> list[Worker]:
        """Workers that have not ended."""
        return [worker for worker in self.workers if worker.poll() is None]

    def children(self) -> list[psutil.Process]:
        """The child processes of all workers."""
        found = []
        for worker in self.alive:
            try:
                found += psutil.Process(worker.pid).children()
            except psutil.Error:
                continue
        return found

    def orphans(self) -> list[psutil.Process]:
        """Processes of trials whose worker is gone; they are known by the output folder among their variables."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HPO_SERVICE_OUTPUT") == str(self.output) and process.ppid() not in self._pids:
                    found.append(process)
            except psutil.Error:
                continue
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]

    @property
    def _pids(self) -> set[int]:
        return {worker.pid for worker in self.alive}

    def wait(self, seconds: float) -> bool:
        """Wait until every worker has ended by itself."""
        _, late = psutil.wait_procs([psutil.Process(w.pid) for w in self.alive if psutil.pid_exists(w.pid)], seconds)
        return not late

    def stop(self) -> None:
        """Kill whatever is left."""
        for process in [*self.children(), *(psutil.Process(w.pid) for w in self.alive)]:
            try:
                process.send_signal(signal.SIGCONT)
                process.kill()
            except psutil.Error:
                continue
        for worker in self.workers:
            worker.wait()
