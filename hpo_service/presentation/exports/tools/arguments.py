"""A recipe as transformers' TrainingArguments, which TRL and LLaMA-Factory extend and scripts use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import METHODS, TARGETS
from hpo_service.service.studies.winner.recipe import Recipe

OUTPUT = "output"
"""Folder that tools write into, beside their configuration."""


def schedule(recipe: Recipe, rows: int) -> tuple[str, dict[str, Any], str]:
    """Return the schedule's name and arguments in transformers, and what differs from the study's, if anything."""
    hyper, steps, warmup = recipe.training, recipe.steps(rows), recipe.warmup_steps(rows)
    name = hyper.scheduler
    if name in NEAREST:
        nearest, told = NEAREST[name]
        return nearest, told(hyper), f"scheduler {name}: transformers has none, {nearest} is the nearest"
    if name == "warmup_stable_decay":
        decay = min(max(1, round(hyper.decay_ratio * steps)), max(1, steps - warmup))
        arguments = {"num_decay_steps": decay, "decay_type": "1-sqrt", "min_lr_ratio": hyper.min_lr_rate}
        return name, arguments, f"scheduler {name}: transformers warms up from min_lr_rate of the peak, not from 0"
    if name == "inverse_sqrt":
        return name, {"timescale": max(1, warmup)}, ""
    return name, ARGUMENTS[name](hyper) if name in ARGUMENTS else {}, ""


ARGUMENTS: dict[str, Callable[[Hyperparameters], dict[str, Any]]] = {
    "cosine_with_restarts": lambda hyper: {"num_cycles": hyper.scheduler_cycles},
    "cosine_with_min_lr": lambda hyper: {"min_lr_rate": hyper.min_lr_rate},
    # left alone it ends at 1e-7, whatever the peak
    "polynomial": lambda hyper: {"power": hyper.scheduler_power, "lr_end": 0.0},
}
"""Arguments of transformers' schedules, where a schedule has some that follow from hyper-parameters alone."""
NEAREST: dict[str, tuple[str, Callable[[Hyperparameters], dict[str, Any]]]] = {
    "step": ("cosine", lambda _: {}),
    "exponential": ("cosine_with_min_lr", lambda hyper: {"min_lr_rate": hyper.min_lr_rate}),
}
"""Schedules that transformers has not, with the one that is nearest."""


def training_arguments(recipe: Recipe, rows: int) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of transformers' TrainingArguments, and what they cannot say.

    Args:
        recipe: what to train by.
        rows: of the training part, from which warm-up and decay in steps follow.
    """
    hyper = recipe.training
    name, arguments, differs = schedule(recipe, rows)
    fields: dict[str, Any] = {
        "output_dir": OUTPUT,
        "num_train_epochs": hyper.epochs,
        "per_device_train_batch_size": recipe.micro_batch,
        "per_device_eval_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": hyper.learning_rate,
        "weight_decay": hyper.weight_decay,
        "max_grad_norm": hyper.max_grad_norm,
        "optim": hyper.optimizer,
        "lr_scheduler_type": name,
        "lr_scheduler_kwargs": arguments or None,
        "warmup_steps": recipe.warmup_steps(rows) if name != "constant" else 0,
        "bf16": recipe.dtype == "bfloat16",
        "fp16": recipe.dtype == "float16",
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "logging_steps": 10,
        "report_to": "none",
    }
    return fields, [differs] if differs else []


def checkpointing(recipe: Recipe) -> bool:
    """Whether activations are computed again: it costs time and changes no number, so where in doubt they are."""
    return recipe.training.activation_checkpointing != "off" and METHODS[recipe.training.method].checkpointable


def alpha(recipe: Recipe) -> tuple[int, list[str]]:
    """Return alpha as the whole number that tools ask for, and what was rounded."""
    exact = recipe.training.alpha
    whole = max(1, round(exact))
    return whole, [] if whole == exact else [f"lora_alpha {exact:g} is rounded to {whole}, a whole number is asked for"]


def modules(recipe: Recipe) -> list[str] | None:
    """Return the names of the modules that get adapters; None is every linear module but the output."""
    wanted = recipe.training.target_modules
    if not isinstance(wanted, str):
        return list(wanted)
    return list(TARGETS[wanted].modules) or None


def embeddings_left_out(recipe: Recipe) -> list[str]:
    """Say so where embeddings and head get adapters that the tool's word for all modules does not reach."""
    wanted = recipe.training.target_modules
    if isinstance(wanted, str) and TARGETS[wanted].embeddings:
        return ["target_modules full: adapters on embeddings and head, for which no tool has a word; name the modules"]
    return []


def different_starts(recipe: Recipe, known: frozenset[str] = frozenset({"default"})) -> list[str]:
    """Say which ways of starting and biases a tool does not know."""
    hyper, said = recipe.training, list[str]()
    if not METHODS[hyper.method].low_rank:
        return said
    if hyper.init_lora_weights not in known:
        said.append(f"init_lora_weights {hyper.init_lora_weights}: adapters start as usual")
    if hyper.lora_bias != "none":
        said.append(f"lora_bias {hyper.lora_bias}: biases stay as they are")
    return said


def packing(recipe: Recipe) -> list[str]:
    """Say that rows are not packed, where the study packed them."""
    if not recipe.data.pack_rows:
        return []
    return [
        "data.pack_rows: other tools' packing changes how many rows a step has, so that it is off; it saves time only"
    ]


def order_and_weight(recipe: Recipe) -> list[str]:
    """Say that rows come in a random order and weigh the same, where the study had it otherwise."""
    order, weight = recipe.training.order, recipe.data.weight
    said = [] if order == "shuffled" else [f"order {order}: rows are shuffled"]
    return said if weight is None else [*said, f"data.weight {weight}: all rows weigh the same"]
