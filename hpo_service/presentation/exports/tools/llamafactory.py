"""LLaMA-Factory: a YAML file for `llamafactory-cli train`, with the dataset_info.json that names its rows."""

from __future__ import annotations

import json
from typing import Any

from hpo_service.domain.study.methods import LOW_RANK, METHODS
from hpo_service.errors import UsageError
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
from hpo_service.service.studies.winner.rows import TRAIN, VALIDATION, WrittenRows

FILE, INFO = "llamafactory.yaml", "data/dataset_info.json"
COMMAND = f"llamafactory-cli train {FILE}"
PISSA = {"pissa": -1, "pissa_niter_16": 16}
"""Iterations of its fast decomposition, by how adapters start; -1 is the exact one."""
ATTENTION = {"auto": "auto", "sdpa": "sdpa", "eager": "disabled", "flash_attention_2": "fa2"}


def translate(recipe: Recipe, rows: WrittenRows) -> Translation:
    """Put a recipe into LLaMA-Factory's words.

    Raises:
        UsageError: the rows are tokenised already, which it does not read.
    """
    if rows.shape == "tokenised":
        raise UsageError("llamafactory reads no rows that are tokenised already: --to trl, axolotl or script")
    fields, left_out = training_arguments(recipe, rows.train)
    adapters, more = _adapters(recipe)
    hyper = recipe.training
    values: dict[str, Any] = {
        "model_name_or_path": rows.model,
        "model_revision": recipe.revision,
        "trust_remote_code": True if recipe.model.trust_remote_code else None,
        "flash_attn": ATTENTION[recipe.model.attention],
        "stage": "pt" if rows.shape == "text" else "sft",
        "do_train": True,
        **adapters,
        "dataset_dir": "data",
        "dataset": "train",
        "eval_dataset": "validation",
        # left out, the tokenizer's own chat template is read
        "template": None if rows.conversations and rows.template else "empty",
        "train_on_prompt": recipe.data.learn == "all",
        "mask_history": rows.shape == "answers" and rows.unlearned_turns > 0 and recipe.data.learn != "all",
        "cutoff_len": recipe.data.max_length,
        "packing": False,
        **fields,
        "disable_gradient_checkpointing": not checkpointing(recipe),
    }
    left_out += [*more, *packing(recipe), *order_and_weight(recipe)]
    if hyper.group_by_length:
        left_out.append("group_by_length: its name depends on the version of transformers beside LLaMA-Factory")
    if rows.shape == "messages" and rows.unlearned_turns:
        left_out.append(f"{rows.unlearned_turns} turns with weight 0 are learned, it has no mark for a turn")
    info = json.dumps(
        {part: _about(rows, file) for part, file in (("train", TRAIN), ("validation", VALIDATION))}, indent=2
    )
    text = yaml_file(values, commented(recipe, COMMAND, left_out))
    return Translation({FILE: text, INFO: info + "\n"}, COMMAND, left_out)


def _about(rows: WrittenRows, file: str) -> dict[str, Any]:
    if rows.conversations:
        tags = {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
            "observation_tag": "tool",
        }
        return {"file_name": file, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    if rows.shape == "text":
        return {"file_name": file, "columns": {"prompt": "text"}}
    return {"file_name": file, "formatting": "alpaca", "columns": {"prompt": "prompt", "response": "completion"}}


def _adapters(recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    hyper = recipe.training
    if hyper.method not in LOW_RANK:
        return {"finetuning_type": "full"}, []
    whole, left_out = alpha(recipe)
    left_out += [*different_starts(recipe, frozenset({"default", *PISSA})), *embeddings_left_out(recipe)]
    method, named = METHODS[hyper.method], modules(recipe)
    bits = {"nf4": 4, "int8": 8}.get(recipe.held)
    return {
        "finetuning_type": "lora",
        "lora_rank": hyper.lora_rank,
        "lora_alpha": whole,
        "lora_dropout": hyper.lora_dropout,
        "lora_target": "all" if named is None else ",".join(named),
        "use_rslora": True if method.scaling == "sqrt" else None,
        "use_dora": True if method.magnitudes else None,
        "pissa_init": True if hyper.init_lora_weights in PISSA else None,
        "pissa_iter": PISSA.get(hyper.init_lora_weights),
        "pissa_convert": True if hyper.init_lora_weights in PISSA else None,
        "loraplus_lr_ratio": None if hyper.lora_plus_ratio == 1 else hyper.lora_plus_ratio,
        "quantization_bit": bits,
        "quantization_method": "bnb" if bits else None,
        "quantization_type": "nf4" if bits == 4 else None,
        "double_quantization": True if bits == 4 else None,
    }, left_out


TOOL = Tool("llamafactory.yaml for `llamafactory-cli train`", LOW_RANK | {"full"}, translate, ends=True)
