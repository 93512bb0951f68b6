"""What a winner is exported as is accepted by each tool's own code: parsers, argument classes, and a step of training.

Packages of tools that are not installed beside the project are tried where they are there; what they document is
checked without them in tests/unit/presentation/exports/tools.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, PeftConfig
from torch import nn, optim
from transformers import BitsAndBytesConfig, HfArgumentParser, TrainingArguments, get_scheduler

from hpo_service.presentation.exports.tools.arguments import schedule
from hpo_service.presentation.exports.tools.table import TOOLS
from hpo_service.training.run.schedules import own_schedule
from hpo_service.training.winner.rows import write_rows
from tests.recipes import recipe, rows
from tests.training.tiny import pairs, save_tiny_llama
from tests.training.tiny import write_rows as write_data

VARIANTS: list[dict[str, Any]] = [
    {},
    {"method": "rslora", "target_modules": "attention", "scheduler": "cosine_with_min_lr"},
    {"method": "dora", "target_modules": ["q_proj"], "scheduler": "warmup_stable_decay"},
    {"method": "full", "optimizer": "adafactor"},
]


def exported(tool: str, folder: Path, *, shape: str = "prompt-completion", **training: Any) -> Path:
    """Write what a tool is given, and a few rows."""
    base = save_tiny_llama(folder / "llama")
    settings = {"epochs": 1, "learning_rate": 1e-3, "lora_rank": 4, **training}
    wanted = recipe(base=base, data={"source": write_data(folder / "rows.jsonl", pairs(40))}, **settings)
    about = {"data": wanted.data.model_dump(mode="json"), "model": wanted.model.model_dump(mode="json")}
    places = {"name": base, "cache": str(folder), "folder": str(folder / "data")}
    write_rows({**about, **places, "pairs": TOOLS[tool].pairs, "ends": TOOLS[tool].ends})
    written = TOOLS[tool].translate(wanted, rows(shape, model=base, folder=folder / "data"))
    for name, text in written.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("training", VARIANTS, ids=str)
def test_transformers_and_peft_read_what_they_are_given(tmp_path: Path, training: dict[str, Any]) -> None:
    folder = exported("peft", tmp_path, **training)
    (arguments,) = HfArgumentParser(TrainingArguments).parse_yaml_file(str(folder / "training_arguments.yaml"))
    assert arguments.learning_rate == 1e-3
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 8
    if training.get("method") != "full":
        config = PeftConfig.from_pretrained(str(folder))
        assert isinstance(config, LoraConfig)
        assert (config.r, config.lora_alpha) == (4, 4)
        assert config.use_dora == (training.get("method") == "dora")


def test_transformers_reads_how_a_base_is_held(tmp_path: Path) -> None:
    folder = exported("peft", tmp_path, method="qlora")
    held = BitsAndBytesConfig.from_dict(json.loads((folder / "quantization_config.json").read_text()))
    assert (held.load_in_4bit, held.bnb_4bit_quant_type, held.bnb_4bit_use_double_quant) == (True, "nf4", True)


@pytest.mark.parametrize("training", VARIANTS, ids=str)
def test_trl_parses_what_it_is_given(tmp_path: Path, training: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trl = pytest.importorskip("trl")
    folder = exported("trl", tmp_path, **training)
    monkeypatch.chdir(folder)
    parser = trl.TrlParser((trl.ScriptArguments, trl.SFTConfig, trl.ModelConfig))
    script, arguments, model = parser.parse_args_and_config(args=["--config", "sft.yaml"], fail_with_unknown_args=True)
    assert script.dataset_name == "data"
    assert arguments.learning_rate == 1e-3
    assert model.use_peft == (training.get("method") != "full")
    assert model.lora_r == (16 if training.get("method") == "full" else 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trl_trains_with_what_it_is_given(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    folder = exported("trl", tmp_path)
    command = [sys.executable, "-m", "trl.scripts.sft", "--config", "sft.yaml", "--max_steps", "1", "--use_cpu"]
    ended = started(command, folder)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert list((folder / "output").rglob("adapter_model.safetensors"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_program_trains_and_saves_an_adapter_with_its_tokenizer(tmp_path: Path) -> None:
    folder = exported("script", tmp_path, scheduler="warmup_stable_decay", lora_plus_ratio=4.0)
    ended = started([sys.executable, "train.py"], folder)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "validation loss" in ended.stdout
    final = folder / "output" / "final"
    assert json.loads((final / "adapter_config.json").read_text())["r"] == 4
    assert (final / "tokenizer.json").is_file()


def test_axolotl_validates_what_it_is_given(tmp_path: Path) -> None:
    config = pytest.importorskip("axolotl.utils.schemas.config")
    folder = exported("axolotl", tmp_path)
    from ruamel.yaml import YAML

    read = config.AxolotlInputConfig(**YAML(typ="safe").load((folder / "axolotl.yaml").read_text()))
    assert (read.lora_r, read.micro_batch_size) == (4, 4)


def test_llamafactory_parses_what_it_is_given(tmp_path: Path) -> None:
    parser = pytest.importorskip("llamafactory.hparams.parser")
    folder = exported("llamafactory", tmp_path)
    from ruamel.yaml import YAML

    values = YAML(typ="safe").load((folder / "llamafactory.yaml").read_text())
    model, data, arguments, finetuning, _ = HfArgumentParser(parser._TRAIN_ARGS).parse_dict(values)
    assert (finetuning.lora_rank, data.template, arguments.learning_rate) == (4, "empty", 1e-3)
    assert model.model_name_or_path == str(tmp_path / "llama")


def started(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    offline = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "HF_DATASETS_CACHE": str(folder / "cache")}
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **offline}, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.parametrize("name", ["inverse_sqrt", "warmup_stable_decay"])
@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_schedules_of_our_own_are_those_of_transformers_with_the_arguments_that_tools_are_given(
    name: str, warmup: float
) -> None:
    wanted = recipe(scheduler=name, warmup_ratio=warmup)
    steps, warm = wanted.steps(120), wanted.warmup_steps(120)

    def rates(made: Any) -> list[float]:
        found = []
        for _ in range(steps):
            found.append(made.get_last_lr()[0])
            made.optimizer.step()
            made.step()
        return found

    theirs, arguments, differs = schedule(wanted, 120)
    optimizers = [optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0) for _ in range(2)]
    ours = own_schedule(wanted.training, optimizers[0], warm, steps)
    assert bool(differs) == (name == "warmup_stable_decay"), "whose warm-up starts above 0 in transformers"
    given = get_scheduler(theirs, optimizers[1], warm, steps, scheduler_specific_kwargs=arguments)
    begin = warm if differs else 0
    assert rates(given)[begin:] == pytest.approx(rates(ours)[begin:], abs=1e-6)
