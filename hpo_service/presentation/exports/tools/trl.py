"""TRL: a YAML file for `trl sft --config`, read by SFTConfig, ModelConfig and ScriptArguments."""

from __future__ import annotations

from typing import Any

from hpo_service.domain.study.methods import LOW_RANK, METHODS
from hpo_service.presentation.exports.tools.arguments import (
    alpha,
    checkpointing,
    different_starts,
    embeddings_left_out,
    modules,
    order_and_weight,
    packing,
    training_arguments,
)
from hpo_service.presentation.exports.tools.tool import Tool, Translation, commented, yaml_file
from hpo_service.service.studies.winner.recipe import Recipe
from hpo_service.service.studies.winner.rows import WrittenRows

FILE = "sft.yaml"
COMMAND = f"trl sft --config {FILE}"


def translate(recipe: Recipe, rows: WrittenRows) -> Translation:
    """Put a recipe into TRL's words."""
    fields, left_out = training_arguments(recipe, rows.train)
    hyper = recipe.training
    # weights that are trained themselves are held in float32, or small steps are lost
    weights = "float32" if METHODS[hyper.method].base == "trained" else recipe.dtype
    adapters, more = _adapters(recipe)
    values: dict[str, Any] = {
        "model_name_or_path": rows.model,
        "model_revision": recipe.revision,
        "dtype": weights,
        "attn_implementation": None if recipe.model.attention == "auto" else recipe.model.attention,
        "trust_remote_code": True if recipe.model.trust_remote_code else None,
        "dataset_name": "data",
        "dataset_train_split": "train",
        "dataset_test_split": "validation",
        "max_length": recipe.data.max_length,
        "packing": False,
        **_learned(recipe, rows),
        **adapters,
        **fields,
        "gradient_checkpointing": checkpointing(recipe),
        "train_sampling_strategy": "group_by_length" if hyper.group_by_length else None,
    }
    left_out += [*more, *packing(recipe), *order_and_weight(recipe), *_turns(recipe, rows)]
    return Translation({FILE: yaml_file(values, commented(recipe, COMMAND, left_out))}, COMMAND, left_out)


def _learned(recipe: Recipe, rows: WrittenRows) -> dict[str, Any]:
    if rows.shape in ("prompt-completion", "answers"):
        return {"completion_only_loss": recipe.data.learn == "completions"}
    if rows.shape == "messages":
        return {"assistant_only_loss": recipe.data.learn == "completions"}
    return {"dataset_kwargs": {"skip_prepare_dataset": True}} if rows.shape == "tokenised" else {}


def _turns(recipe: Recipe, rows: WrittenRows) -> list[str]:
    if rows.shape != "messages" or recipe.data.learn == "all":
        return []
    said = [
        "assistant_only_loss wants a chat template with {% generation %} marks; TRL brings those of well-known models"
    ]
    if rows.unlearned_turns:
        said.append(f"{rows.unlearned_turns} turns with weight 0 are learned, since TRL has no mark for a turn")
    return said


def _adapters(recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    hyper = recipe.training
    if hyper.method not in LOW_RANK:
        return {"use_peft": False}, []
    whole, left_out = alpha(recipe)
    left_out += [*different_starts(recipe), *embeddings_left_out(recipe)]
    if hyper.lora_plus_ratio != 1:
        left_out.append(f"lora_plus_ratio {hyper.lora_plus_ratio:g}: A and B learn equally fast")
    method = METHODS[hyper.method]
    return {
        "use_peft": True,
        "lora_r": hyper.lora_rank,
        "lora_alpha": whole,
        "lora_dropout": hyper.lora_dropout,
        "lora_target_modules": modules(recipe) or ["all-linear"],
        "use_rslora": method.scaling == "sqrt",
        "use_dora": method.magnitudes,
        "load_in_4bit": True if recipe.held == "nf4" else None,
        "bnb_4bit_quant_type": "nf4" if recipe.held == "nf4" else None,
        "use_bnb_nested_quant": True if recipe.held == "nf4" else None,
        "load_in_8bit": True if recipe.held == "int8" else None,
    }, left_out


TOOL = Tool("sft.yaml for `trl sft --config`", LOW_RANK | {"full"}, translate, pairs=True)
