"""`memory` reads configurations where the hub's libraries keep them, and says what trials need part by part."""

import json

import pytest
from typer.testing import CliRunner

from hpo_service.cli import app
from hpo_service.errors import HpoServiceError, NotFoundError, UsageError
from hpo_service.launch import devices
from hpo_service.launch.devices import Gpu, gpu_sizes
from hpo_service.service.studies.model_config import hub_cache, read_config

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
SMALL = {**LLAMA_8B, "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 16}


def save(folder, config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache that holds org/large, and nothing else."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HPO_SERVICE_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "hub" / "models--org--large"
    save(kept / "snapshots" / "abc", LLAMA_8B)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc\n")
    return tmp_path


def study(folder, base, target="org/large", **sections):
    text = {
        "name": "s",
        "model": {"base": base, "target": target},
        "data": {"source": "org/rows", "max_length": 2048},
        "space": {"preset": "lora"},
        **sections,
    }
    path = folder / "s.yaml"
    path.write_text(json.dumps(text))
    return str(path)


def asked(*arguments):
    return CliRunner().invoke(app, ["memory", *arguments])


def test_both_models_are_estimated_at_the_largest_configuration_of_the_space(hub):
    path = study(hub, save(hub / "small", SMALL))
    found = json.loads(asked(path, "--gpu", "16", "--gpu", "80", "--json").stdout)
    large = found["target"]
    assert large["model"] == "org/large"
    assert large["parts"]["base weights"] == pytest.approx(13.96, abs=0.01)
    # the largest rank of the space, 32, carried over at twice that
    assert large["parts"]["trained weights"] == pytest.approx(4 * 41_943_040 * 4 / 1e9, rel=0.01)
    assert large["largest_gb"] == pytest.approx(sum(large["parts"].values()) + large["context_and_fragmentation"])
    assert large["smallest_gb"] < large["largest_gb"]
    assert large["micro_batch"] == {"16": None, "80": 8}
    assert found["base"]["micro_batch"]["80"] == 8
    assert found["base"]["largest_gb"] < large["largest_gb"]


def test_the_table_names_every_part_and_what_fits(hub):
    printed = asked(study(hub, save(hub / "small", SMALL)), "--gpu", "16").stdout
    for words in ("base weights", "activations", "context and fragmentation", "largest trial", "micro-batch on 16 GB"):
        assert words in printed
    assert "too large" in printed


def test_methods_that_are_searched_are_weighed_against_each_other(hub):
    path = study(
        hub,
        save(hub / "small", SMALL),
        space={"preset": "lora", "parameters": {"method": {"choices": ["lora", "qlora"]}}},
    )
    found = json.loads(asked(path, "--json").stdout)["target"]
    assert found["largest_gb"] - found["smallest_gb"] > 4


def test_a_model_that_is_not_here_is_one_line_and_the_other_is_estimated(hub):
    done = asked(study(hub, "org/elsewhere"), "--json")
    assert set(json.loads(done.stdout)) == {"target"}
    assert done.stderr == (
        "warning: model org/elsewhere: its config.json is not on this machine: get it with "
        "`hf download org/elsewhere config.json`, or name a local folder\n"
    )


def test_a_model_whose_configuration_names_no_sizes_is_one_line(hub):
    done = asked(study(hub, save(hub / "strange", {"model_type": "mamba"})))
    assert "its configuration does not tell what a trial needs" in done.stderr


def test_where_nothing_is_known_the_command_fails_with_the_reasons(hub):
    done = asked(study(hub, "builtin:llama-tiny", "builtin:llama-small"))
    assert isinstance(done.exception, NotFoundError)
    assert str(done.exception).count("it is made when a study first runs") == 2
    (hub / "empty").mkdir()
    missing = asked(study(hub, str(hub / "empty"), None))
    assert str(missing.exception).endswith("there is no readable config.json in that folder")


def test_an_objective_of_ones_own_cannot_be_told(hub):
    path = hub / "own.yaml"
    path.write_text("name: own\nobjective: {python: 'a:b'}\nspace: {parameters: {x: {low: 0.0, high: 1.0}}}\n")
    assert isinstance(asked(str(path)).exception, UsageError)


def test_models_from_scratch_have_no_size_beforehand(hub):
    done = asked(study(hub, "org/large", None, space={"preset": "scratch"}, training={"method": "scratch"}))
    assert isinstance(done.exception, UsageError)
    assert "from scratch" in str(done.exception)


def test_sizes_are_those_of_the_gpus_of_this_machine(monkeypatch):
    gpus = [Gpu("0", "A", 81559), Gpu("1", "A", 81559), Gpu("2", "B", 24576), Gpu("3", "shared", 0)]
    monkeypatch.setattr(devices, "list_gpus", lambda: gpus)
    assert gpu_sizes() == (25.8, 85.5)

    def broken():
        raise HpoServiceError("CUDA_VISIBLE_DEVICES names no GPU")

    monkeypatch.setattr(devices, "list_gpus", broken)
    assert gpu_sizes() == ()


def test_builtin_models_are_read_where_they_were_made(hub):
    save(hub / "cache" / "models" / "llama-tiny-abc123", SMALL)
    assert read_config("builtin:llama-tiny", hub / "cache")["hidden_size"] == 1024


def test_a_revision_is_a_name_or_a_commit(hub):
    assert read_config("org/large", hub, "main") == read_config("org/large", hub, "abc") == LLAMA_8B
    (hub / "hub" / "models--org--large" / "snapshots" / "abc" / "config.json").write_text("[]")
    with pytest.raises(NotFoundError):
        read_config("org/large", hub)


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_hubs_cache_is_where_its_libraries_look(environment, expected):
    assert str(hub_cache(environment)) == expected
