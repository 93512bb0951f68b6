"""A full run and a merge are asked for with what the recipe says; what cannot be is refused before a child starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.errors import ChildError, ConflictError, TrialError, UsageError
from hpo_service.presentation.exports.final_card import write_final_card
from hpo_service.service.studies.winner import child, final_run, merging
from hpo_service.service.studies.winner.final_run import WORK, final_config, train_in_full
from hpo_service.service.studies.winner.merging import merge
from hpo_service.service.studies.winner.own_folder import MARK, claim
from tests.recipes import recipe


def test_a_final_run_has_the_whole_schedule_and_nothing_that_ends_it_early() -> None:
    config = final_config(recipe(learning_rate=3e-4, lora_alpha=11.5, patience=2, evaluations_per_epoch=8))
    assert (config.training.learning_rate, config.training.alpha, config.training.epochs) == (3e-4, 11.5, 3)
    assert (config.training.patience, config.training.evaluations_per_epoch) == (0, 1)
    assert (config.seed, config.model_name, config.keep_adapter) == (1043, "org/large", True)
    sent = config.model_dump(mode="json", exclude_unset=True)
    assert TrialConfig.model_validate(sent) == config


def test_the_weights_take_the_place_of_earlier_ones_when_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "final"
    claim(folder, "train")
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"old")

    def answer(name: str, request: Mapping[str, Any], tell: Any) -> dict[str, Any]:
        adapter = Path(request["folder"]) / "adapter"
        adapter.mkdir(parents=True)
        (adapter / "adapter_model.safetensors").write_bytes(b"new")
        (adapter / "adapter_model.safetensors").chmod(0o600)
        measured = {"test": 2.25, "curve": [[0.5, 2.5], [1.0, 2.25]], "rows": 90, "steps": 36, "resumed_at_step": 0}
        return {"adapter": str(adapter), **measured, "device_seconds": 1.0, "versions": f"of {name}"}

    monkeypatch.setattr(final_run, "answer_of", answer)
    wanted = recipe(epochs=2)
    run = train_in_full(wanted, folder, tmp_path)
    write_final_card(wanted, run)
    assert sorted(path.name for path in folder.iterdir()) == [MARK, "README.md", "adapter_model.safetensors"]
    assert not (folder / WORK).exists()
    card = (folder / "README.md").read_text()
    assert "| 1 | 2.5000 |\n| 2 | 2.2500 |" in card
    assert "with training.epochs 1 and without the validation rows, its runs reached 2.5000" in card
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


@pytest.mark.parametrize("method, what", [("prefix", "no part of any weight"), ("full", "a whole model already")])
def test_what_has_no_adapter_is_not_merged(method: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=what):
        merge(recipe(method=method), tmp_path, tmp_path / "merged", tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConflictError, match="has not written: name an empty or new folder"):
        merge(recipe(), tmp_path, tmp_path, tmp_path)


def test_an_adapter_of_a_quantised_base_is_merged_into_the_base_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "answer_of", lambda *_: {"parameters": 10, "dtype": "bfloat16"})
    merged = merge(recipe(method="qlora"), tmp_path, tmp_path / "merged", tmp_path)
    assert "in 4 bits (nf4)" in merged.remark
    assert not merge(recipe(), tmp_path, tmp_path / "merged", tmp_path).remark


@pytest.mark.parametrize(
    "answer, error, said",
    [
        ((1, '{"error": "rows.jsonl is empty"}', ""), TrialError, "rows.jsonl is empty"),
        ((-9, "", "Killed"), ChildError, "the process for rows ended with status -9: Killed"),
        ((1, "", "ModuleNotFoundError: No module named 'torch'"), ChildError, r"pip install 'hpo-service\[train\]'"),
    ],
)
def test_a_child_that_fails_is_one_line(
    answer: tuple[int, str, str], error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "ask", lambda *_: answer)
    with pytest.raises(error, match=said):
        child.answer_of("rows", {})
