"""A fleet of real worker processes on one machine, and what may be done to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

HERE = Path(__file__).parent


@dataclass
class Fleet:
    """Worker processes of one study (of all, where it is ""); any of them may be killed, frozen or replaced."""

    storage: str
    output: Path
    study: str
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0

    def start(self, count: int, failpoint: str = "", extra: tuple[str, ...] = ()) -> list[subprocess.Popen[bytes]]:
        """Start workers; with a failpoint they kill themselves when they reach it."""
        new = [self._spawn(failpoint, extra) for _ in range(count)]
        self.workers += new
        return new

    def _spawn(self, failpoint: str, extra: tuple[str, ...]) -> subprocess.Popen[bytes]:
        self.started += 1
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            "OMP_NUM_THREADS": "1",
            "HPO_SERVICE_STORAGE": self.storage,
            "HPO_SERVICE_OUTPUT": str(self.output),
            **self.environment,
        }
        # Dozens of processes are started here for what they do: unit and acceptance tests measure their lines.
        for name in ("HPO_SERVICE_FAILPOINT", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
            environment.pop(name, None)
        if failpoint:
            environment["HPO_SERVICE_FAILPOINT"] = failpoint
        study = ["--study", self.study] if self.study else []
        command = [sys.executable, "-m", "hpo_service", "worker", *study, "--until-finished", *extra]
        self.output.mkdir(parents=True, exist_ok=True)
        with (self.output / "workers.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    @property
    def alive(self) -> list[subprocess.Popen[bytes]]:
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
