"""A winner is trained on all but the test rows, merged without a change of its outputs, and its rows are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from hpo_service.domain.study.sections.data import SplitSpec
from hpo_service.errors import ModelError
from hpo_service.service.studies.winner.final_run import final_config
from hpo_service.service.studies.winner.own_folder import MARK, claim
from hpo_service.training.data.formats import Example
from hpo_service.training.data.split import split_examples
from hpo_service.training.winner.final_run import Alone, run
from hpo_service.training.winner.merging import merge
from hpo_service.training.winner.rows import shaped, write_rows
from tests.recipes import recipe
from tests.training.tiny import pairs, save_tiny_llama
from tests.training.tiny import write_rows as write_data

USER, ASSISTANT = {"role": "user", "content": "say 1"}, {"role": "assistant", "content": "number 1"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_data(tmp_path_factory.mktemp("data") / "rows.jsonl", pairs(60))


def test_the_final_run_learns_all_but_the_test_rows_and_tells_their_loss(llama: str, data: str, tmp_path: Path) -> None:
    wanted = recipe(base=llama, data={"source": data, "max_length": 64}, epochs=2, learning_rate=5e-3)
    told: list[str] = []
    channel = Alone(lambda message, _share: told.append(message))
    answer = run(final_config(wanted), tmp_path / "run" / "attempt-1", tmp_path / "cache", channel)
    parts = split_examples([Example("", p["prompt"], p["completion"]) for p in pairs(60)], SplitSpec()).parts
    assert answer["rows"] == len(parts["train"]) + len(parts["validation"])
    assert [share for share, _ in answer["curve"]] == [0.5, 1.0]
    assert answer["test"] == answer["curve"][-1][1] < answer["curve"][0][1]
    kept = {path.name for path in Path(answer["adapter"]).iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= kept
    assert any(line.startswith("test loss") for line in told)


def adapter_of(llama: str, folder: Path, config: Any) -> PeftModel:
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(llama), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    model.save_pretrained(str(folder))
    return model.eval()


def request(llama: str, tmp_path: Path) -> dict[str, Any]:
    claim(tmp_path / "merged", "merge")
    return {
        "adapter": str(tmp_path / "adapter"),
        "base": llama,
        "revision": None,
        "trust_remote_code": False,
        "dtype": "float32",
        "cache": str(tmp_path),
        "folder": str(tmp_path / "merged"),
        "mark": MARK,
        "chat_template": None,
    }


def test_merged_weights_say_what_the_adapter_on_its_base_says(llama: str, tmp_path: Path) -> None:
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    adapted = adapter_of(llama, tmp_path / "adapter", lora)
    answer = merge(request(llama, tmp_path))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = AutoTokenizer.from_pretrained(tmp_path / "merged")("number 1", return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=1e-5, rtol=1e-5)
    assert answer["dtype"] == "float32"
    assert answer["parameters"] == merged.num_parameters()
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_a_prefix_is_not_merged(llama: str, tmp_path: Path) -> None:
    adapter_of(llama, tmp_path / "adapter", PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    with pytest.raises(ModelError, match="no part of any weight"):
        merge(request(llama, tmp_path))
    assert [path.name for path in (tmp_path / "merged").iterdir()] == [MARK]


def test_rows_are_written_as_the_study_splits_them_without_its_test_rows(llama: str, data: str, tmp_path: Path) -> None:
    wanted = recipe(base=llama, data={"source": data})
    about = {"data": wanted.data.model_dump(mode="json"), "model": wanted.model.model_dump(mode="json")}
    answer = write_rows(
        {**about, "name": llama, "cache": str(tmp_path), "folder": str(tmp_path / "data"), "pairs": True, "ends": True}
    )
    parts = split_examples([Example("", p["prompt"], p["completion"]) for p in pairs(60)], SplitSpec()).parts
    for part in ("train", "validation"):
        read = [json.loads(line) for line in (tmp_path / "data" / f"{part}.jsonl").read_text().splitlines()]
        expected = [{"prompt": e.prompt, "completion": e.completion + "</s>"} for e in parts[part]]
        assert read == expected
        assert answer[part] == len(expected)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["train.jsonl", "validation.jsonl"]
    assert answer["shape"] == "prompt-completion"


def split_of(*messages: list[dict[str, Any]], unlearned: frozenset[int] = frozenset()) -> Any:
    rows = [
        Example(str(number), messages=(*each, {"role": "tool", "content": str(number)}, ASSISTANT), unlearned=unlearned)
        for number, each in enumerate(messages * 30)
    ]
    return split_examples(rows, SplitSpec(validation=0.2, test=0.2))


def test_conversations_with_one_answer_become_prompt_and_completion_where_that_is_asked_for() -> None:
    split = split_of([USER])
    shape, written, _ = shaped(split, pairs=True)
    assert shape == "answers"
    assert all(row["completion"] == [ASSISTANT] and row["prompt"][0] == USER for row in written["train"])
    assert "messages" in shaped(split)[1]["train"][0]


def test_turns_that_are_not_learned_are_marked() -> None:
    shape, written, unlearned = shaped(split_of([USER, ASSISTANT, USER], [USER], unlearned=frozenset({1})))
    assert shape == "messages" or unlearned
    assert {turn["train"] for row in written["train"] for turn in row["messages"]} == {True, False}
