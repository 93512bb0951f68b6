"""The wiring: one database under all stores, and what command line and workers ask of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

from hpo_service import bootstrap
from hpo_service.bootstrap import Service
from hpo_service.domain.decide.placement import Resources
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import DatabaseUnavailableError, NotFoundError, SchemaError, UnfitWorkerError
from hpo_service.launch.devices import Gpu
from hpo_service.service.workers import Activity, new_worker_id
from hpo_service.settings import Settings
from hpo_service.worker.device.lock import DeviceLock
from hpo_service.worker.options import WorkerOptions


@pytest.fixture
def service(migrated_sqlite, tmp_path) -> Iterator[Service]:
    made = Service(Settings(migrated_sqlite, tmp_path / "out", tmp_path / "cache"))
    yield made
    made.db.dispose()


def study(service: Service, name: str) -> str:
    spec = {
        "name": name,
        "objective": {"python": "nowhere:nothing"},
        "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
    }
    return service.studies.create(StudySpec.model_validate(spec)).name


def test_every_store_shares_the_one_database(service):
    with service.db.transaction():
        study(service, "seen")
        assert service.study_rows.find("seen") is not None
        assert [row.optuna_name for row in service.study_rows.stages(service.study_rows.get("seen").id)]
    assert service.reader.snapshot("seen").name == "seen"


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    made = Service(Settings(f"sqlite:///{tmp_path / 'no' / 'study.db'}", tmp_path / "out", tmp_path / "cache"))
    assert made.queue is made.queue
    assert not (tmp_path / "no").exists()
    with pytest.raises(SchemaError):
        made.reader.snapshot("any")
    made.db.dispose()


def test_a_study_that_is_required_must_exist(service):
    study(service, "mine")
    service.checks.require("mine")
    with pytest.raises(NotFoundError, match="did you mean mine"):
        service.checks.require("mime")


@pytest.mark.parametrize("state", [StudyState.PAUSED, StudyState.DRAINING, StudyState.CANCELLED])
def test_a_study_that_is_held_or_has_ended_is_not_worked_on(service, state):
    study(service, "mine")
    assert not service.checks.finished("mine")
    service.studies.steer("mine", state, "a test")
    assert service.checks.finished("mine")


def test_without_a_name_all_studies_must_have_ended(service):
    assert service.checks.finished(None)
    study(service, "one")
    study(service, "two")
    service.studies.steer("one", StudyState.CANCELLED, "a test")
    assert not service.checks.finished(None)
    service.studies.steer("two", StudyState.CANCELLED, "a test")
    assert service.checks.finished(None)


def test_a_deleted_study_has_ended(service):
    study(service, "mine")
    service.studies.delete("mine")
    assert service.checks.finished("mine")


def test_a_worker_is_written_down_with_its_devices_and_signs_off(service, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    service.supervisor(WorkerOptions(id="w", output=tmp_path, has=Resources(1)))
    with service.db.transaction():
        [row] = service.worker_rows.list()
    assert (row.id, row.pid, row.devices, row.state) == ("w", os.getpid(), "3", "active")
    service.workers.retire("w")
    with service.db.transaction():
        [row] = service.worker_rows.list()
    assert (row.state, row.reason) == ("stopped", "left of its own accord")


def test_a_worker_may_leave_while_the_database_is_away(tmp_path):
    away = Service(Settings("postgresql://nobody@127.0.0.1:9/none", tmp_path, tmp_path))
    with pytest.raises(DatabaseUnavailableError):
        away.checks.require("mine")
    away.workers.retire("w")


def test_active_workers_are_told_of_with_what_they_do(service):
    with service.db.transaction():
        for name, activity in (("a", "training"), ("b", "loading (10%)"), ("c", "loading (20%)")):
            service.worker_rows.register(name, "node", 1, "0.1.0", "cpu")
            service.worker_rows.beat(name, activity)
        service.worker_rows.stop("c", "left")
        seen = {row.id: row.seen_at for row in service.worker_rows.list()}
    said = {"a": Activity("training", seen["a"]), "b": Activity("loading (10%)", seen["b"])}
    assert service.workers.activities() == said


def test_workers_of_one_process_number_have_different_names():
    names = {new_worker_id() for _ in range(5)}
    assert len(names) > 1
    assert all(f"-{os.getpid()}-" in name for name in names)


def test_a_worker_whose_gpu_is_another_workers_claims_nothing_and_says_so(service, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("HPO_SERVICE_MEMORY_GB", raising=False)
    monkeypatch.setattr(bootstrap, "list_gpus", lambda: [Gpu("3", "H100", 81559, "GPU-x"), Gpu("4", "H100", 81559, "")])
    other = DeviceLock("other")
    other.take({"GPU-x": "GPU 3"})
    options = WorkerOptions(new_worker_id(), tmp_path / "out", has=Resources(2), trainer=1)
    with pytest.raises(UnfitWorkerError, match="worker other has GPU 3 already"):
        service.supervisor(options).run()
    other.release()
