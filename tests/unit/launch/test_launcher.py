"""The table of launchers: every row can be planned, started, watched, told to leave and waited for."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import HpoServiceError
from hpo_service.launch import local
from hpo_service.launch.devices import Gpu
from hpo_service.launch.launcher import LAUNCHERS, Launcher
from hpo_service.settings import Settings

STEPS = {name for name in vars(Launcher) if not name.startswith("_")}


def spec(**execution: int) -> StudySpec:
    study = {"name": "mine", "model": {"base": "one"}, "data": {"source": "rows"}, "execution": execution}
    return StudySpec.model_validate(study)


def test_a_launcher_has_seven_steps() -> None:
    assert {"plan", "start", "watch", "alive", "signal", "wait", "logs"} == STEPS


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_has_all_of_them(name: str) -> None:
    assert {step for step in STEPS if hasattr(LAUNCHERS[name], step)} == STEPS


@pytest.fixture
def settings(tmp_path):
    return Settings("sqlite:///study.db", tmp_path / "out", tmp_path / "cache")


def test_local_workers_are_planned_for_the_devices_of_this_machine(settings, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(local, "list_gpus", lambda: [Gpu(str(i), "H100", 81559) for i in range(4)])
    planned = local.LocalWorkers.plan(spec(gpus_per_trial=2), settings, None)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in planned.places] == ["0,1", "2,3"]
    assert (planned.study, planned.storage, planned.alive) == ("mine", "sqlite:///study.db", 0)
    assert planned.logs == str(tmp_path / "out" / "logs")
    with pytest.raises(HpoServiceError, match="gpus_per_trial is 8, but only 4 GPUs"):
        local.LocalWorkers.plan(spec(gpus_per_trial=8), settings, None)
