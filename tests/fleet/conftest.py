"""Launches as a person makes them: the command line in processes of its own, a database, a Slurm of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.studies.snapshot import StudySnapshot
from hpo_service.settings import Settings
from tests.fleet import slurm_site
from tests.fleet.slurm_site import SlurmSite
from tests.fleet.steps import STEPS, expected

HERE = Path(__file__).parent
PATIENCE = 240.0


@dataclass
class Desk:
    """Where a person sits: a database, an output folder, and the command line."""

    service: Service
    output: Path
    environment: dict[str, str] = field(default_factory=dict)
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def study(self, trials: int = 6, **sections: Any) -> None:
        """Create a study of an objective that takes a moment for each of its steps."""
        given: dict[str, Any] = {
            "name": "mine",
            "objective": {"python": "steps:steps"},
            "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
            "search": {"sampler": "random", "pruner": "none", "budget": {"trials": trials}},
            "training": {"evaluations_per_epoch": STEPS},
            "execution": {"lease_seconds": 4.0},
            "confirm": {"enabled": False},
        }
        self.service.studies.create(StudySpec.model_validate({**given, **sections}))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command."""
        process = subprocess.Popen(
            [sys.executable, "-m", "hpo_service", *arguments],
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.output,
        )
        self.running.append(process)
        return process

    def say(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run a command to its end and return what it printed."""
        process = self.start(*arguments, **environment)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, said
        return said

    def launches(self) -> list[dict[str, Any]]:
        """What `launch status` says."""
        found: list[dict[str, Any]] = json.loads(self.say("launch", "status", "--json"))
        return found

    @property
    def snapshot(self) -> StudySnapshot:
        """The study as it is."""
        return self.service.reader.snapshot("mine")

    def count(self, *states: TrialState) -> int:
        """How many trials are in these states."""
        return sum(stage.count(*states) for stage in self.snapshot.stages)

    def events(self, kind: str) -> list[str]:
        """Reasons of the events of a kind."""
        return [row.reason for row in self.service.events.list() if row.kind == kind]

    def wait(self, holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.logs()}"
            time.sleep(0.2)

    def wait_for_the_end(self, each_time: Callable[[], object] = lambda: None) -> None:
        """Wait until the study has finished."""
        self.wait(lambda: (each_time(), self.snapshot.state.final)[1], "the end of the study")
        assert self.snapshot.state is StudyState.FINISHED

    def require_nothing_lost(self, trials: int) -> None:
        """Make sure that exactly so many trials ended, each with every report and the value that it must have."""
        found = [trial for stage in self.snapshot.stages for trial in stage.trials]
        assert [trial.state for trial in found] == [TrialState.COMPLETE] * trials
        for trial in found:
            assert trial.value == pytest.approx(expected(trial.parameters, STEPS))
            assert [report.step for report in trial.curve] == list(range(1, STEPS + 1))

    def logs(self) -> str:
        """The last lines of what was written."""
        return "\n".join(
            f"{log.name}: {line}"
            for log in sorted((self.output / "logs").glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()[-6:]
        )


@pytest.fixture
def desk(migrated_postgres: str, tmp_path: Path) -> Iterator[Desk]:
    """A person with a PostgreSQL database."""
    output = tmp_path / "out"
    output.mkdir()
    service = Service(Settings(storage=migrated_postgres, output=output, cache=tmp_path / "cache"))
    paths = [str(HERE), str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        "HPO_SERVICE_STORAGE": migrated_postgres,
        "HPO_SERVICE_OUTPUT": str(output),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    desk = Desk(service, output, environment)
    yield desk
    for process in desk.running:
        process.kill()
        process.wait()
    service.db.dispose()


@pytest.fixture
def site_of() -> Iterator[Callable[..., SlurmSite]]:
    """Starts a Slurm of two nodes, which ends with the test; where there is none to start, the test is skipped.

    In CI it fails instead.
    """
    if lacking := slurm_site.missing():
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(f"no Slurm for the tests: {lacking}")
        pytest.skip(f"no Slurm for the tests: {lacking}")
    sites: list[SlurmSite] = []
    # directly under the temporary folder: a socket's path must stay under about 100 characters
    with tempfile.TemporaryDirectory(prefix="hpo-slurm-", ignore_cleanup_errors=True) as folder:

        def start(**settings: Any) -> SlurmSite:
            sites.append(SlurmSite(Path(folder), **settings))
            sites[-1].start()
            return sites[-1]

        yield start
        for site in sites:
            site.stop()
