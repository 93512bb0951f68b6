"""What a study takes of a disk, in a sentence, and the warning where there is less."""

from __future__ import annotations

import json

import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.presentation.sizing import disk
from hpo_service.presentation.sizing.disk import disk_lines

LLAMA = {"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16}
HEADS = {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256}


@pytest.fixture
def study(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({**LLAMA, **HEADS}))
    sections = {"name": "s", "model": {"base": str(model)}, "data": {"source": "org/rows"}}
    return StudySpec.model_validate({**sections, "space": {"preset": "minimal"}, "confirm": {"seeds": 2, "top": 1}})


def test_what_runs_and_what_is_kept_is_told(study, tmp_path):
    [line] = disk_lines(study, tmp_path / "not there yet", tmp_path)
    assert line.startswith("disk: about 812 MB for each trial that runs at a time, and ")
    assert line.endswith(" in the end for 4 adapters that are kept")


def test_with_a_store_adapters_are_kept_there(study, tmp_path):
    [line] = disk_lines(study, tmp_path, tmp_path, "s3://bucket")
    assert line.endswith("adapters that are kept in the store")


def test_a_disk_that_has_less_is_warned_of_with_what_to_do(study, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_free_gb", lambda _: 0.2)
    _, warning = disk_lines(study, tmp_path, tmp_path)
    assert warning.startswith(f"warning: 200 MB are free in {tmp_path} and 1.2 GB are needed: free space, ")


def test_of_a_model_that_is_not_here_nothing_is_said(study, tmp_path):
    elsewhere = study.model_copy(update={"model": study.model.model_copy(update={"base": "org/elsewhere"})})
    assert disk_lines(elsewhere, tmp_path, tmp_path) == []
