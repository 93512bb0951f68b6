"""`best/` holds the adapter and says what it is, and never a half-written one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hpo_service.presentation.exports.best import missing_adapter, write_best
from hpo_service.service.studies.findings.evidence import Evidence, gather_evidence
from hpo_service.service.studies.snapshot import StudySnapshot
from tests.unit.presentation import story


def finished(adapter: Path | None) -> tuple[StudySnapshot, Evidence]:
    confirm = story.confirm_stage(adapter=str(adapter) if adapter else None)
    snapshot = replace(story.snapshot(), stages=[story.search_stage(), story.verify_stage(), confirm])
    return snapshot, gather_evidence(snapshot, story.scores)


def load(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load((folder / "config.yaml").read_text())
    return document


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "trial" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"r": 64}')
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_the_adapter_and_its_configuration_lie_in_one_folder(tmp_path: Path, adapter: Path) -> None:
    best = write_best(*finished(adapter), tmp_path / "out")
    assert best == tmp_path / "out" / "best"
    files = ["README.md", "adapter_config.json", "adapter_model.safetensors", "config.yaml"]
    assert sorted(p.name for p in best.iterdir()) == files
    assert (best / "adapter_model.safetensors").read_bytes() == b"weights"
    assert load(best)["adapter"] == "."
    assert adapter.exists(), "the trial keeps its own"


def test_the_configuration_is_complete_and_says_how_it_was_found(tmp_path: Path, adapter: Path) -> None:
    document = load(write_best(*finished(adapter), tmp_path))
    assert document["verdict"].startswith("the winner is better than the default by 3.")
    assert document["model"] == {"name": "builtin:llama-small", "quantisation": "none", "dtype": "auto"}
    assert document["data"]["source"] == "builtin:stdlib-docstrings"
    settings = document["hyperparameters"]
    assert settings["lora_rank"] == 64
    assert settings["lora_alpha"] == 64
    assert settings["scheduler"] == "cosine"
    assert not {"scratch_width", "prefix_tokens", "scheduler_power"} & set(settings), "the run did not read these"
    assert settings["epochs"] == 1
    assert document["seed"] == 1042
    assert len(document["measured"]["default"]["runs"]) == 3
    low, high = document["measured"]["interval_percent"]
    assert low < document["measured"]["improvement_percent"] < high
    assert document["found"]["run"] == "confirm #0"
    assert document["found"]["trials"] == {"search": 16, "verify": 9, "confirm": 6}


def test_comments_say_where_each_value_is_from(tmp_path: Path, adapter: Path) -> None:
    snapshot, evidence = finished(adapter)
    fixed = replace(snapshot, spec=story.snapshot(training={"weight_decay": 0.0, "scheduler": "linear"}).spec)
    text = (write_best(fixed, evidence, tmp_path) / "config.yaml").read_text()
    assert "scheduler: linear  # fixed in the study file" in text.replace(" #", "  #").replace("   #", "  #")
    for name, origin in (
        ("lora_rank", "searched"),
        ("max_grad_norm", "not searched, the default"),
        ("lora_alpha", "= lora_alpha_multiplier x lora_rank"),
    ):
        line = next(line for line in text.splitlines() if line.startswith(f"  {name}:"))
        assert line.endswith(f"# {origin}")


def test_without_an_adapter_on_this_machine_the_configuration_says_where_it_is(tmp_path: Path) -> None:
    snapshot, evidence = finished(tmp_path / "elsewhere")
    best = write_best(snapshot, evidence, tmp_path)
    assert [p.name for p in best.iterdir()] == ["config.yaml"]
    assert load(best)["adapter"] is None
    assert f"is not on this machine: look for {tmp_path / 'elsewhere'}" in (best / "config.yaml").read_text()


def test_an_older_best_is_replaced_whole(tmp_path: Path, adapter: Path) -> None:
    folder = tmp_path / "out"
    best = write_best(*finished(adapter), folder)
    (best / "stale.bin").write_text("from an earlier run")
    assert write_best(*finished(adapter), folder) == best
    assert not (best / "stale.bin").exists()
    assert [p.name for p in folder.iterdir()] == ["best"], "nothing else is left behind"


def test_a_best_that_cannot_be_finished_leaves_the_older_one(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    best = write_best(*finished(adapter), folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hpo_service.presentation.exports.best.shutil.copytree", full)
    with pytest.raises(OSError, match="No space left"):
        write_best(*finished(adapter), folder)
    assert (best / "adapter_model.safetensors").read_bytes() == b"weights"
    assert [p.name for p in folder.iterdir()] == ["best"]


def test_a_study_with_nothing_measured_writes_only_the_verdict(tmp_path: Path) -> None:
    snapshot = story.snapshot(story.search_stage(0))
    evidence = gather_evidence(snapshot, story.scores)
    document = load(write_best(snapshot, evidence, tmp_path))
    assert document["verdict"] == "nothing was measured yet"
    assert "hyperparameters" not in document
    assert missing_adapter(snapshot, evidence) == "no run ended with a finite value"


def test_without_confirmation_there_is_no_adapter_and_the_reason_is_given(tmp_path: Path) -> None:
    snapshot = story.snapshot(story.search_stage(), story.verify_stage())
    evidence = gather_evidence(snapshot, story.scores)
    reason = missing_adapter(snapshot, evidence)
    assert reason == "run verify #2 kept no adapter: only confirmation runs do"
    document = load(write_best(snapshot, evidence, tmp_path))
    assert document["found"]["run"] == "verify #2"
    assert "improvement_percent" not in document["measured"]


def test_a_confirmation_run_without_an_adapter_is_said_to_have_saved_none() -> None:
    assert missing_adapter(*finished(None)) == "run confirm #0 saved no adapter"


def test_the_default_is_exported_where_it_is_recommended(tmp_path: Path) -> None:
    confirm = story.confirm_stage(gain=-0.05)
    snapshot = replace(story.snapshot(), stages=[story.search_stage(), story.verify_stage(), confirm])
    evidence = gather_evidence(snapshot, lambda i, s: story.scores(i, s, finished=snapshot))
    document = load(write_best(snapshot, evidence, tmp_path))
    assert document["recommended"] == "default"
    assert document["hyperparameters"]["lora_rank"] == 16
    assert document["remarks"]


def test_an_own_objective_gets_its_values_alone(tmp_path: Path) -> None:
    own = {"objective": {"python": "mine:objective"}, "space": {"preset": "minimal"}, "name": "own"}
    base = story.snapshot(story.search_stage())
    snapshot = replace(base, spec=type(base.spec).model_validate(own))
    evidence = gather_evidence(snapshot, story.scores)
    document = load(write_best(snapshot, evidence, tmp_path))
    assert document["objective"] == {"python": "mine:objective"}
    assert "model" not in document
    assert document["hyperparameters"] == evidence.recommended.parameters
    assert missing_adapter(snapshot, evidence) == "an objective of your own keeps what it trains itself"


def test_weights_get_the_mode_of_an_ordinary_file(tmp_path: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").chmod(0o600)
    best = write_best(*finished(adapter), tmp_path / "out")
    modes = {path.stat().st_mode for path in best.iterdir()}
    assert modes == {(best / "config.yaml").stat().st_mode}


def test_the_card_tells_scores_data_use_and_how_to_train_it_again(tmp_path: Path, adapter: Path) -> None:
    (adapter / "README.md").write_text("PEFT's own, with nothing filled in")
    snapshot, evidence = finished(adapter)
    card = (write_best(snapshot, evidence, tmp_path / "out") / "README.md").read_text()
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    about = YAML(typ="safe").load(head)
    assert about["library_name"] == "peft"
    assert "base_model" not in about, "the hub knows no builtin model"
    assert evidence.recommended is not None
    assert evidence.recommended.test is not None
    for part in (
        "`builtin:llama-small`",
        f"{evidence.recommended.test:.4f}",
        "at 95% confidence",
        "`builtin:stdlib-docstrings`",
        "AutoPeftModelForCausalLM.from_pretrained",
        "hpo-service train quickstart --epochs 1",
        "`learning_rate`",
    ):
        assert part in body
    assert "nothing filled in" not in card


def test_without_weights_there_is_no_card(tmp_path: Path) -> None:
    assert not (write_best(*finished(None), tmp_path) / "README.md").exists()
