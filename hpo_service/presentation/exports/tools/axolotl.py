"""Axolotl: a YAML file for `axolotl train`, read by AxolotlInputConfig."""

from __future__ import annotations

from typing import Any

from hpo_service.domain.study.methods import LOW_RANK, METHODS, STARTS
from hpo_service.presentation.exports.tools.arguments import (
    OUTPUT,
    alpha,
    checkpointing,
    different_starts,
    embeddings_left_out,
    modules,
    order_and_weight,
    packing,
    schedule,
)
from hpo_service.presentation.exports.tools.tool import Tool, Translation, commented, yaml_file
from hpo_service.service.studies.winner.recipe import Recipe
from hpo_service.service.studies.winner.rows import TRAIN, VALIDATION, WrittenRows

FILE = "axolotl.yaml"
COMMAND = f"axolotl train {FILE}"


def translate(recipe: Recipe, rows: WrittenRows) -> Translation:
    """Put a recipe into Axolotl's words."""
    hyper = recipe.training
    name, arguments, differs = schedule(recipe, rows.train)
    adapters, left_out = _adapters(recipe)
    left_out += [*([differs] if differs else []), *packing(recipe), *order_and_weight(recipe)]
    read, template = _reading(recipe, rows), recipe.data.chat_template if rows.conversations else None
    values: dict[str, Any] = {
        "base_model": rows.model,
        "revision_of_model": recipe.revision,
        "trust_remote_code": True if recipe.model.trust_remote_code else None,
        **adapters,
        "chat_template": "jinja" if template else "tokenizer_default" if rows.conversations else None,
        "chat_template_jinja": template,
        "datasets": [{"path": f"data/{TRAIN}", "ds_type": "json", "split": "train", **read}],
        "test_datasets": [{"path": f"data/{VALIDATION}", "ds_type": "json", "split": "train", **read}],
        "train_on_inputs": recipe.data.learn == "all",
        "sequence_len": recipe.data.max_length,
        "sample_packing": False,
        "num_epochs": hyper.epochs,
        "micro_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "eval_batch_size": recipe.micro_batch,
        "optimizer": hyper.optimizer,
        "learning_rate": hyper.learning_rate,
        "weight_decay": hyper.weight_decay,
        "max_grad_norm": hyper.max_grad_norm,
        "lr_scheduler": name,
        "lr_scheduler_kwargs": arguments or None,
        "warmup_steps": recipe.warmup_steps(rows.train) if name != "constant" else 0,
        "group_by_length": True if hyper.group_by_length else None,
        "bf16": recipe.dtype == "bfloat16",
        "fp16": True if recipe.dtype == "float16" else None,
        "attn_implementation": "sdpa" if recipe.model.attention == "auto" else recipe.model.attention,
        "gradient_checkpointing": checkpointing(recipe),
        "evals_per_epoch": 1,
        "saves_per_epoch": 1,
        "seed": recipe.seed,
        "output_dir": OUTPUT,
    }
    return Translation({FILE: yaml_file(values, commented(recipe, COMMAND, left_out))}, COMMAND, left_out)


def _reading(recipe: Recipe, rows: WrittenRows) -> dict[str, Any]:
    """Say how Axolotl is to read the rows; what follows the prompt is learned, and its end."""
    if rows.conversations:
        everyone = ["system", "user", "assistant", "tool"]
        return {
            "type": "chat_template",
            "field_messages": "messages",
            "message_property_mappings": {"role": "role", "content": "content"},
            "roles_to_train": ["assistant"] if recipe.data.learn == "completions" else everyone,
            "train_on_eos": "turn",
            **({"message_field_training": "train"} if rows.unlearned_turns else {}),
        }
    if rows.shape == "tokenised":
        return {}
    if rows.shape == "text":
        return {"type": "completion", "field": "text"}
    return {
        "type": {
            "system_prompt": "",
            "field_instruction": "prompt",
            "field_output": "completion",
            "format": "{instruction}",
            "no_input_format": "{instruction}",
        }
    }


def _adapters(recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    hyper = recipe.training
    if hyper.method not in LOW_RANK:
        return {}, []
    whole, left_out = alpha(recipe)
    left_out += [*different_starts(recipe, frozenset(STARTS)), *embeddings_left_out(recipe)]
    method, named = METHODS[hyper.method], modules(recipe)
    return {
        "adapter": "qlora" if recipe.held == "nf4" else "lora",
        "load_in_4bit": True if recipe.held == "nf4" else None,
        "load_in_8bit": True if recipe.held == "int8" else None,
        "lora_r": hyper.lora_rank,
        "lora_alpha": whole,
        "lora_dropout": hyper.lora_dropout,
        "lora_target_linear": True if named is None else None,
        "lora_target_modules": named,
        "peft_use_rslora": True if method.scaling == "sqrt" else None,
        "peft_use_dora": True if method.magnitudes else None,
        "peft_init_lora_weights": None if hyper.init_lora_weights == "default" else hyper.init_lora_weights,
        "loraplus_lr_ratio": None if hyper.lora_plus_ratio == 1 else hyper.lora_plus_ratio,
        "loraplus_lr_embedding": None if hyper.lora_plus_ratio == 1 else hyper.learning_rate,
    }, left_out


TOOL = Tool("axolotl.yaml for `axolotl train`", LOW_RANK | {"full"}, translate, own_template=True)
