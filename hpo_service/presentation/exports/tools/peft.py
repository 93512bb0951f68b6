"""PEFT: an adapter_config.json, and transformers' TrainingArguments beside it."""

from __future__ import annotations

import json
from typing import Any

from hpo_service.domain.study.methods import LOW_RANK, METHODS
from hpo_service.presentation.exports.tools.arguments import (
    checkpointing,
    embeddings_left_out,
    modules,
    order_and_weight,
    packing,
    training_arguments,
)
from hpo_service.presentation.exports.tools.tool import Tool, Translation, commented, yaml_file
from hpo_service.service.studies.winner.recipe import Recipe
from hpo_service.service.studies.winner.rows import WrittenRows

CONFIG, ARGUMENTS, HELD = "adapter_config.json", "training_arguments.yaml", "quantization_config.json"
COMMAND = (
    'PeftConfig.from_pretrained("."), HfArgumentParser(TrainingArguments).parse_yaml_file("training_arguments.yaml")'
)


def translate(recipe: Recipe, rows: WrittenRows) -> Translation:
    """Put a recipe into PEFT's words, and what PEFT does not decide into those of transformers."""
    fields, left_out = training_arguments(recipe, rows.train)
    fields["gradient_checkpointing"] = checkpointing(recipe)
    if recipe.training.group_by_length:
        fields["train_sampling_strategy"] = "group_by_length"
    left_out += [*embeddings_left_out(recipe), *packing(recipe), *order_and_weight(recipe)]
    if recipe.training.lora_plus_ratio != 1 and recipe.training.method in LOW_RANK:
        left_out.append(f"lora_plus_ratio {recipe.training.lora_plus_ratio:g}: is the optimizer's, see peft.optimizers")
    files = {ARGUMENTS: yaml_file(fields, commented(recipe, COMMAND, left_out))}
    adapter = adapter_config(recipe, rows.model)
    if adapter is not None:
        files[CONFIG] = json.dumps(adapter, indent=2) + "\n"
    held = quantisation(recipe)
    if held is not None:
        files[HELD] = json.dumps(held, indent=2) + "\n"
    return Translation(files, COMMAND, left_out)


def quantisation(recipe: Recipe) -> dict[str, Any] | None:
    """Return how the base is held as transformers' BitsAndBytesConfig.from_dict reads it; None where it is not."""
    if recipe.held == "nf4":
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": recipe.dtype,
        }
    return {"load_in_8bit": True} if recipe.held == "int8" else None


def adapter_config(recipe: Recipe, model: str) -> dict[str, Any] | None:
    """Return the adapter as PEFT's configuration of it; None where the method has none."""
    hyper = recipe.training
    method = METHODS[hyper.method]
    about = {"task_type": "CAUSAL_LM", "base_model_name_or_path": model, "revision": recipe.revision}
    if method.virtual_tokens:
        return {"peft_type": "PREFIX_TUNING", **about, "num_virtual_tokens": hyper.prefix_tokens}
    if not method.low_rank:
        return None
    whole = float(hyper.alpha).is_integer()
    return {
        "peft_type": "LORA",
        **about,
        "r": hyper.lora_rank,
        "lora_alpha": int(hyper.alpha) if whole else hyper.alpha,
        "lora_dropout": hyper.lora_dropout,
        "target_modules": modules(recipe) or "all-linear",
        "use_rslora": method.scaling == "sqrt",
        "use_dora": method.magnitudes,
        "bias": hyper.lora_bias,
        "init_lora_weights": True if hyper.init_lora_weights == "default" else hyper.init_lora_weights,
    }


TOOL = Tool(
    "adapter_config.json and training_arguments.yaml for PEFT and transformers",
    LOW_RANK | {"full", "prefix"},
    translate,
)
