"""Each tool is told every hyper-parameter in its own words, or is said not to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from hpo_service.domain.study.hyperparameters import SEARCHABLE
from hpo_service.errors import UsageError
from hpo_service.presentation.exports.tools import NAMES
from hpo_service.presentation.exports.tools.table import TOOLS
from hpo_service.presentation.exports.tools.tool import Translation, require_method
from tests.recipes import recipe, rows

DOCUMENTED = Path(__file__).parent / "documented"
SHAPES = ("prompt-completion", "text", "messages", "answers")
VARIANTS: list[dict[str, Any]] = [
    {},
    {"method": "qlora"},
    {"method": "rslora", "target_modules": "attention"},
    {"method": "dora", "target_modules": ["q_proj", "v_proj"]},
    {"method": "full"},
    {"scheduler": "warmup_stable_decay", "decay_ratio": 0.3},
    {"scheduler": "exponential"},
    {"scheduler": "polynomial", "lora_plus_ratio": 16.0, "init_lora_weights": "pissa"},
    {"optimizer": "paged_adamw_8bit", "lora_alpha": 11.3, "group_by_length": True},
]
CHANGED: dict[str, list[dict[str, Any]]] = {
    "learning_rate": [{"learning_rate": 7e-4}],
    "lora_rank": [{"lora_rank": 4}],
    "lora_alpha": [{"lora_alpha": 40.0}],
    "lora_alpha_multiplier": [{"lora_alpha_multiplier": 4.0}],
    "lora_dropout": [{"lora_dropout": 0.1}],
    "lora_bias": [{"lora_bias": "all"}],
    "lora_plus_ratio": [{"lora_plus_ratio": 16.0}],
    "init_lora_weights": [{"init_lora_weights": "gaussian"}, {"init_lora_weights": "pissa"}],
    "target_modules": [{"target_modules": "minimal"}, {"target_modules": "full"}, {"target_modules": ["q_proj"]}],
    "warmup_ratio": [{"warmup_ratio": 0.2}],
    "weight_decay": [{"weight_decay": 0.5}],
    "optimizer": [{"optimizer": "lion_8bit"}],
    "scheduler": [{"scheduler": "linear"}, {"scheduler": "step"}, {"scheduler": "exponential"}],
    "effective_batch": [{"effective_batch": 16}],
    "max_grad_norm": [{"max_grad_norm": 0.3}],
    "method": [{"method": "qlora"}, {"method": "rslora"}, {"method": "dora"}, {"method": "full"}],
    "epochs": [{"epochs": 5}],
    "order": [{"order": "curriculum"}, {"order": "progressive"}],
}
DEPENDENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "scheduler_cycles": ({"scheduler": "cosine_with_restarts"}, {"scheduler_cycles": 5}),
    "scheduler_power": ({"scheduler": "polynomial"}, {"scheduler_power": 3.0}),
    "min_lr_rate": ({"scheduler": "cosine_with_min_lr"}, {"min_lr_rate": 0.3}),
    "decay_ratio": ({"scheduler": "warmup_stable_decay"}, {"decay_ratio": 0.5}),
}
REFUSED = {"prefix_tokens"} | {name for name in SEARCHABLE if name.startswith("scratch_")}


def translated(tool: str, shape: str = "prompt-completion", **training: Any) -> Translation:
    return TOOLS[tool].translate(recipe(**training), rows(shape))


def settings(translation: Translation, file: str) -> dict[str, Any]:
    read: dict[str, Any] = YAML(typ="safe").load(translation.files[file])
    return read


def test_the_command_line_offers_the_tools_of_the_table() -> None:
    assert tuple(TOOLS) == NAMES


def test_every_hyperparameter_is_looked_at_here() -> None:
    assert set(CHANGED) - {"epochs", "order"} | set(DEPENDENT) | REFUSED == SEARCHABLE


@pytest.mark.parametrize("tool", NAMES)
@pytest.mark.parametrize("name", CHANGED)
def test_no_hyperparameter_is_lost_in_silence(tool: str, name: str) -> None:
    plain = translated(tool).files
    for change in CHANGED[name]:
        assert translated(tool, **change).files != plain, f"{change} leaves no trace in what {tool} is given"


@pytest.mark.parametrize("tool", NAMES)
def test_weights_of_rows_are_said_to_be_left_out(tool: str) -> None:
    written = TOOLS[tool].translate(recipe(data={"weight": "w"}), rows())
    assert "data.weight w: all rows weigh the same" in written.left_out


@pytest.mark.parametrize("tool", NAMES)
@pytest.mark.parametrize("name", DEPENDENT)
def test_what_belongs_to_a_schedule_comes_along(tool: str, name: str) -> None:
    with_it, changed = DEPENDENT[name]
    assert translated(tool, **with_it, **changed).files != translated(tool, **with_it).files


@pytest.mark.parametrize("tool", NAMES)
def test_the_header_names_study_trial_seed_versions_and_command(tool: str) -> None:
    written = translated(tool, scheduler="step")
    head = next(text for text in written.files.values() if text.startswith("#"))
    for part in ("study mine", "confirm #4", "seed 1043", "torch 2.13", written.command, "better than the default"):
        assert part in head
    assert all(each in head for each in written.left_out)


@pytest.mark.parametrize("tool", ["trl", "axolotl", "llamafactory"])
def test_a_method_that_a_tool_cannot_train_is_refused_with_those_that_can(tool: str) -> None:
    prefix = recipe(method="prefix")
    with pytest.raises(UsageError, match=r"cannot train method prefix.*--to peft or script"):
        require_method(tool, TOOLS[tool], prefix, ["peft", "script"])
    assert TOOLS["script"].translate(prefix, rows()).files


def test_no_other_tool_builds_models_from_nothing() -> None:
    for name, tool in TOOLS.items():
        with pytest.raises(UsageError, match="`hpo-service train` does"):
            require_method(name, tool, recipe(method="scratch"), [])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", VARIANTS, ids=str)
def test_axolotl_documents_all_that_it_is_given(shape: str, training: dict[str, Any]) -> None:
    schema = json.loads((DOCUMENTED / "axolotl.json").read_text())
    jsonschema.validate(settings(translated("axolotl", shape, **training), "axolotl.yaml"), schema)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", VARIANTS, ids=str)
def test_llamafactory_documents_all_that_it_is_given(shape: str, training: dict[str, Any]) -> None:
    classes = json.loads((DOCUMENTED / "llamafactory.json").read_text())["classes"]
    fields = {name: about for each in classes.values() for name, about in each.items()}
    written = translated("llamafactory", shape, **training)
    for name, value in settings(written, "llamafactory.yaml").items():
        assert name in fields, f"LLaMA-Factory has no argument {name}"
        choices = fields[name]["choices"]
        assert not choices or value in choices, f"{name}: {value} is none of {choices}"
    info = json.loads(written.files["data/dataset_info.json"])
    assert {about["file_name"] for about in info.values()} == {"train.jsonl", "validation.jsonl"}


def test_a_learning_rate_reads_the_same_on_the_way_back() -> None:
    rate = 0.005513959251302862
    assert settings(translated("trl", learning_rate=rate), "sft.yaml")["learning_rate"] == rate


def test_warming_up_is_counted_in_steps_of_the_rows_that_there_are() -> None:
    # 3 epochs of 15 steps, a tenth of them rounded up
    assert settings(translated("trl", warmup_ratio=0.1), "sft.yaml")["warmup_steps"] == 5


def test_tokenised_rows_are_refused_where_they_are_not_read() -> None:
    with pytest.raises(UsageError, match="tokenised already: --to trl"):
        translated("llamafactory", "tokenised")


def test_the_program_is_python_with_the_schedules_that_transformers_lacks() -> None:
    text = translated("script", scheduler="exponential", lora_plus_ratio=8.0).files["train.py"]
    compile(text, "train.py", "exec")
    assert "SCHEDULE = 'exponential'" in text
    assert "LORA_PLUS = 8.0" in text
    assert not translated("script", scheduler="exponential").left_out
