"""What the doctor finds on machines with and without devices, trainer and disk."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
from types import SimpleNamespace

import pytest

from hpo_service.bootstrap import Service
from hpo_service.launch import readiness
from hpo_service.launch.devices import Gpu
from hpo_service.settings import Settings


@pytest.fixture
def findings():
    def look():
        service = Service(Settings.read())
        found = {finding.what: finding for finding in readiness.examine(service.machine)}
        service.db.dispose()
        return found

    return look


def test_each_gpu_is_listed(findings, monkeypatch):
    monkeypatch.setattr(readiness, "list_gpus", lambda: [Gpu("0", "H100", 81559), Gpu("1", "H100", 81559)])
    found = findings()
    assert found["gpu 0"].detail == found["gpu 1"].detail == "H100, 80 GiB"
    assert "devices" not in found


def test_a_machine_without_gpu_is_warned_about(findings, monkeypatch):
    monkeypatch.setattr(readiness, "list_gpus", list)
    assert findings()["devices"].level == "warning"


def test_a_machine_without_the_trainer_s_libraries_can_still_manage(findings, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else real(name))
    trainer = findings()["trainer"]
    assert trainer.level == "warning"
    assert trainer.detail.startswith("peft not installed")
    assert "pip install 'hpo-service[train]'" in trainer.detail


def test_trackers_that_are_installed_are_named(findings, monkeypatch):
    real = importlib.util.find_spec
    folder = importlib.machinery.ModuleSpec("wandb", None)  # what a run folder of theirs looks like
    others = {"wandb": folder, "mlflow": None}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: others[name] if name in others else real(name))
    assert findings()["trackers"].detail == "tensorboard"


def test_a_disk_that_is_nearly_full_is_warned_about(findings, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
    found = findings()
    assert found["output folder"].level == found["cache folder"].level == "warning"
    assert "1 GB free" in found["cache folder"].detail


def test_an_up_to_date_schema_is_named(findings):
    service = Service(Settings.read())
    service.upgrade()
    service.db.dispose()
    assert findings()["schema"].detail.startswith("at revision ")


def test_a_finding_is_plain_data():
    finding = readiness.Finding("python", "ok", "3.11")
    assert finding.as_json() == {"what": "python", "level": "ok", "detail": "3.11"}
