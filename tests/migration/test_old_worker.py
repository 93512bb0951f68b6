"""Workers of the version before, kept as a fixture, against a database that this version upgraded.

`worker-0006.tar.xz` is the package as it was when the schema's head was 0006, without server, client and trainer.
It runs with the libraries of today.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from hpo_service.bootstrap import Service
from hpo_service.domain.trial.states import StudyState
from hpo_service.settings import Settings
from hpo_service.storage import migrations

OLD = "0006"
PACKAGE = Path(__file__).with_name(f"worker-{OLD}.tar.xz")
TRIALS = 3
OBJECTIVE = """\
import pathlib, time

def held(trial):
    here = pathlib.Path(__file__).parent
    (here / "there").touch()
    while not (here / "go").exists():
        time.sleep(0.05)
        trial.report(1, 1.0)
    return trial.parameters["x"]
"""
STUDY = """\
name: old
objective: {python: "objective_of_the_test:held"}
space: {parameters: {x: {low: 0.0, high: 1.0}}}
search: {sampler: random, pruner: none, budget: {trials: 3}}
"""


@pytest.fixture
def old(tmp_path, database_url):
    """Start a command of the old version, in a folder with the study and its objective."""
    with tarfile.open(PACKAGE) as kept:
        kept.extractall(tmp_path / "package", filter="data")
    (tmp_path / "objective_of_the_test.py").write_text(OBJECTIVE)
    (tmp_path / "study.yaml").write_text(STUDY)
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path / 'package'}:{tmp_path}",
        "HPO_SERVICE_STORAGE": database_url,
        "HPO_SERVICE_OUTPUT": str(tmp_path / "output"),
    }
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "hpo_service", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stdout=pipe, stderr=pipe)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def service(database_url, tmp_path):
    service = Service(Settings(storage=database_url, output=tmp_path / "output", cache=tmp_path / "cache"))
    yield service
    service.db.dispose()


def ended(process):
    """Status and last words of a command."""
    _, said = process.communicate(timeout=120)
    return process.returncode, said


def asked(service, question):
    with service.db.transaction(read_only=True):
        return [tuple(row) for row in service.db.connection.execute(text(question))]


def rows(service):
    """All that is kept of studies, trials and workers, table by table."""
    tables = ("hpo_study", "hpo_stage", "hpo_trial", "hpo_attempt", "hpo_report", "hpo_worker", "trials")
    return {table: sorted(map(repr, asked(service, f"SELECT * FROM {table}"))) for table in tables}


def test_a_worker_that_runs_while_the_database_is_upgraded_ends_its_study_as_if_nothing_had_been(
    old, service, tmp_path
):
    assert ended(old("study", "create", "study.yaml", "--quick")) == (0, "")
    assert service.revision() == OLD
    worker = old("worker", "--study", "old", "--until-finished")
    deadline = time.monotonic() + 90
    while not (tmp_path / "there").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    service.upgrade()
    (tmp_path / "go").touch()
    status, said = ended(worker)
    assert status == 0, said
    migrations.check(service.db)
    assert service.reader.snapshot("old").state is StudyState.FINISHED
    assert asked(service, "SELECT DISTINCT state FROM hpo_trial") == [("complete",)]
    assert asked(service, "SELECT count(*) FROM v_trials WHERE stage = 'search'") == [(TRIALS,)]
    # none was begun twice, and Optuna has each as we have it
    assert asked(service, "SELECT count(*) FROM hpo_attempt") == asked(service, "SELECT count(*) FROM hpo_trial")
    ended_in_optuna = "SELECT count(*) FROM trials WHERE CAST(state AS VARCHAR) = 'COMPLETE'"
    assert asked(service, ended_in_optuna) == asked(service, "SELECT count(*) FROM hpo_trial")


def test_a_worker_that_starts_afterwards_refuses_in_one_line_and_writes_nothing(old, service):
    assert ended(old("study", "create", "study.yaml", "--quick")) == (0, "")
    service.upgrade()
    before = rows(service)
    status, said = ended(old("worker", "--study", "old", "--until-finished"))
    assert status == 6
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "was upgraded by a newer hpo-service (revision " in line
    assert line.endswith("install that version here too")
    assert rows(service) == before
    assert "Traceback" not in said
