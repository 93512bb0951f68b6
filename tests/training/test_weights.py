"""What is said of weights that cannot be loaded, before anything is."""

import json
import shutil

import pytest
from transformers import AutoModelForCausalLM

from hpo_service.training.models.weights import weights_fault

NAME = "model.safetensors"


@pytest.fixture
def folder(llama, tmp_path):
    return shutil.copytree(llama, tmp_path / "model")


@pytest.fixture
def sharded(llama, tmp_path):
    AutoModelForCausalLM.from_pretrained(llama).save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    return tmp_path / "parts"


def test_weights_that_are_there_have_no_fault(folder, sharded):
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert weights_fault(folder) == weights_fault(sharded) == ""


def test_a_folder_without_weights_is_told_and_an_adapters_needs_none(folder):
    (folder / NAME).unlink()
    assert weights_fault(folder).startswith("holds no weights: there is no model.safetensors and no pytorch_model.bin")
    (folder / "adapter_config.json").write_text("{}")
    assert weights_fault(folder) == ""


@pytest.mark.parametrize("kept", [0, 5, 2000, -1])
def test_weights_that_are_cut_are_damaged(folder, kept):
    (folder / NAME).write_bytes((folder / NAME).read_bytes()[:kept])
    assert weights_fault(folder).startswith("has a damaged model.safetensors")
    assert weights_fault(folder).endswith("fetch it again")


@pytest.mark.parametrize("name", [NAME, "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_no_weight(folder, name):
    (folder / NAME).unlink()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n")
    assert f"a pointer of Git LFS in the place of {name}: run `git lfs pull`" in weights_fault(folder)


def test_parts_that_are_missing_are_counted(sharded):
    parts = sorted(sharded.glob("*.safetensors"))
    parts[1].write_bytes(b"")
    assert weights_fault(sharded) == f"has a damaged {parts[1].name}: fetch it again"
    parts[0].unlink()
    assert weights_fault(sharded).startswith(f"lacks 1 of the {len(parts)} files of its weights, {parts[0].name} first")


@pytest.mark.parametrize("index", ["no json", json.dumps({"weight_map": []})])
def test_an_index_that_cannot_be_read_is_told(sharded, index):
    (sharded / "model.safetensors.index.json").write_text(index)
    assert weights_fault(sharded) == "has an unreadable model.safetensors.index.json: fetch it again"


def test_weights_in_the_older_format_are_not_looked_into(folder):
    (folder / NAME).rename(folder / "pytorch_model.bin")
    assert weights_fault(folder) == ""
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert weights_fault(folder) == "has an empty pytorch_model.bin: fetch it again"
