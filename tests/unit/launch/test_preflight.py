"""What `doctor --study` finds on nodes that lack something a study needs."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.launch import preflight
from hpo_service.launch.devices import Gpu
from hpo_service.settings import Settings

H100 = Gpu("0", "H100", 81559, "GPU-1")
SAID = '{"findings": [{"what": "study\'s device", "level": "ok", "detail": "torch computes on cpu"}]}'


@pytest.fixture(autouse=True)
def _no_child(monkeypatch):
    monkeypatch.setattr(preflight, "ask", lambda *_: (0, SAID, ""))
    monkeypatch.setattr(preflight, "first_look", lambda _: [])


@pytest.fixture
def look():
    """Examine this machine for a study; findings by name, the last of a name."""

    def look(service=None, **sections):
        study = {"name": "s", "model": {"base": "builtin:llama-tiny"}, "data": {"source": "builtin:docstrings"}}
        service = service or Service(Settings.read())
        found = preflight.preflight(service.machine, StudySpec.model_validate(study | sections))
        service.db.dispose()
        return {finding.what: finding for finding in found}

    return look


def has_gpus(monkeypatch, *gpus, free=None):
    monkeypatch.setattr(preflight, "list_gpus", lambda: list(gpus))
    monkeypatch.setattr(preflight, "free_memory_mib", lambda gpu: gpu.memory_mib if free is None else free)


def test_the_machine_is_looked_at_first_and_then_what_the_study_needs(look, monkeypatch):
    has_gpus(monkeypatch)
    found = look()
    assert {"python", "database", "study's libraries", "latency", "shared folder", "study's inputs"} <= set(found)
    assert list(found).index("cache folder") < list(found).index("study's libraries")
    assert [name for name, finding in found.items() if finding.level == "error"] == []
    assert found["study's device"].detail == "torch computes on cpu"


def test_a_study_that_holds_weights_in_4_bits_cannot_run_without_bitsandbytes(look, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else real(name))
    assert look()["study's libraries"].level == "ok"
    quantised = {"base": "builtin:llama-tiny", "quantisation": "nf4"}
    finding = look(model=quantised)["study's libraries"]
    assert (finding.level, finding.detail) == (
        "error",
        "bitsandbytes not installed: pip install 'hpo-service[train]'",
    )


def test_a_trial_that_takes_more_gpus_than_there_are_cannot_run(look, monkeypatch):
    has_gpus(monkeypatch, H100)
    finding = look(execution={"gpus_per_trial": 2})["study's gpus"]
    assert finding.level == "error"
    assert "gpus_per_trial is 2, but only 1 GPU can be used" in finding.detail


def test_memory_that_others_hold_is_told(look, monkeypatch):
    has_gpus(monkeypatch, H100, free=40000)
    finding = look()["study's gpus"]
    assert finding.level == "warning"
    assert finding.detail.startswith("of gpu 0 only 39 of 80 GiB are free: see who holds the rest with nvidia-smi")


@pytest.mark.parametrize("free, level, says", [(81559, "ok", "86 GB are free"), (100, "error", "but 0 GB are")])
def test_what_trials_need_is_compared_with_what_is_free(look, monkeypatch, tmp_path, free, level, says):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,'
        '"num_attention_heads": 4, "vocab_size": 512}'
    )
    has_gpus(monkeypatch, H100, free=free)
    finding = look(model={"base": str(model)})["study's memory"]
    assert finding.level == level, finding
    assert says in finding.detail


def test_a_database_far_away_is_told(look, monkeypatch):
    has_gpus(monkeypatch)
    ticks = iter(range(1000))
    assert look()["latency"].detail == "the database will be a file on this machine"
    service = Service(Settings.read())
    service.upgrade()
    monkeypatch.setattr(preflight, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    finding = look(service)["latency"]
    assert finding.level == "warning"
    assert finding.detail.startswith("the database answers in 1000.0 ms: start workers nearer")


def test_a_folder_of_one_node_is_told_where_the_database_serves_many(look, monkeypatch, migrated_postgres, tmp_path):
    has_gpus(monkeypatch)
    monkeypatch.setattr(preflight, "try_shared_folder", lambda _: "ext4")
    assert look()["shared folder"].level == "ok"
    there = Service(Settings.read(storage=migrated_postgres, output=tmp_path))
    finding = look(there)["shared folder"]
    assert finding.level == "warning"
    assert "on ext4, which other nodes may not see: trials of a node that is lost begin anew" in finding.detail


def test_a_trainer_that_ends_without_an_answer_is_an_error(look, monkeypatch):
    has_gpus(monkeypatch)
    monkeypatch.setattr(preflight, "ask", lambda *_: (-11, "", "Segmentation fault"))
    assert look()["study's device"].detail.startswith(
        "the trainer's libraries end with status -11 (Segmentation fault)"
    )


def test_a_study_with_an_objective_of_its_own_needs_no_trainer(look, monkeypatch):
    has_gpus(monkeypatch)
    monkeypatch.setattr(preflight, "ask", lambda *_: pytest.fail("no child is needed"))
    own = {"model": None, "data": None, "objective": {"python": "a:b"}}
    own["space"] = {"parameters": {"x": {"low": 0.0, "high": 1.0}}}
    assert look(**own)["study's libraries"].detail == "not needed: the objective is the study's own"
