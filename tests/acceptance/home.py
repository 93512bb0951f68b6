"""A folder in which someone uses the command line: a study file, what it names, and nothing of the developer's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from hpo_service.bootstrap import Service
from hpo_service.service.studies.snapshot import StudySnapshot
from hpo_service.settings import Settings

TREE = Path(__file__).parents[2]
"""Where the package lies that is tested: commands use no other one that may be installed."""
NOT_OURS = ("HPO_SERVICE_", "COVERAGE_")
"""Beginnings of variables that commands do not see: they run as fast as a user's, other tests measure their lines."""
PATIENCE = 240.0
"""Seconds until a test gives up: a trainer imports its libraries for many seconds where cores are shared."""

LORA = """\
name: {name}
model: {{base: ./small, target: ./large}}
data: {{source: rows.jsonl, max_length: 64, split: {{validation: 0.15, test: 0.15}}}}
space: {{parameters: {{learning_rate: {{low: 9e-4, high: 5e-2, log: true}}}}}}
search: {{sampler: {sampler}, budget: {{trials: {trials}}}}}
training: {{evaluations_per_epoch: 4, effective_batch: 8}}
transfer: {{top: {top}}}
confirm: {{seeds: {seeds}, default: {{learning_rate: 9e-4}}}}
execution: {{lease_seconds: 5}}
"""
"""A study of the built-in trainer whose trials take half a second each."""

OWN = """\
name: {name}
objective: {{python: "objective_of_the_test:bowl"}}
space: {{parameters: {{x: {{low: 0.0, high: 1.0}}}}}}
search: {{sampler: random, pruner: none, budget: {{trials: {trials}}}}}
training: {{evaluations_per_epoch: 4}}
confirm: {{seeds: 2, default: {{x: 0.9}}}}
execution: {{lease_seconds: 2}}
"""
"""A study of an own objective, which needs no trainer."""

OBJECTIVE = """\
import os, time

def bowl(trial):
    value = (float(trial.parameters["x"]) - 0.3) ** 2
    for step in range(1, 5):
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
        trial.report(step, value + 1 / step)
        if trial.should_stop():
            break
    return value
"""


@dataclass(frozen=True)
class Home:
    """The folder, and the variables its commands run with beside those of every test."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a command sees: without settings, so that results go where they go by default."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
        path = os.pathsep.join([str(TREE), str(self.folder)])
        own = {"HPO_SERVICE_CACHE": str(self.folder / "cache"), "PYTHONPATH": path}
        return {**clean, **own, **self.variables}

    @property
    def storage(self) -> str:
        """URL of the database that the commands use."""
        named = self.variables.get("HPO_SERVICE_STORAGE")
        return named or f"sqlite:///{self.folder / 'hpo-output' / 'hpo-service.db'}"

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command and go on."""
        return subprocess.Popen(
            [sys.executable, "-m", "hpo_service", *arguments],
            cwd=self.folder,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return ended(self.start(*arguments, **variables))

    @cached_property
    def service(self) -> Service:
        """The same database from within this process."""
        return Service(Settings(self.storage, self.folder / "hpo-output", self.folder / "cache"))

    def snapshot(self, study: str) -> StudySnapshot:
        """Read a study as it is now."""
        return self.service.reader.snapshot(study)

    def processes(self) -> list[psutil.Process]:
        """Workers and children that were started from here and have not ended."""
        found = []
        for process in psutil.process_iter():
            try:
                here = process.cwd() == str(self.folder) and "hpo_service" in " ".join(process.cmdline())
            except psutil.Error:
                continue
            if here and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def clear(self) -> None:
        """Kill whatever a failed test left behind, and close the database."""
        for process in self.processes():
            process.kill()
        self.service.db.dispose()


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a command and return what it said."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_until(happened: Callable[[], Any], what: str, pause: float = 0.1) -> None:
    """Wait until something has happened, and fail where it never does."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(pause)
