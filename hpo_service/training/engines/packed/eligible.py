"""Which trials can share a pack, and why another cannot."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hpo_service.domain.study.methods import METHODS, STARTS, adapts_embeddings, held_in
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.errors import TrialError
from hpo_service.training.models.base import compute_dtype


class NotPackedError(TrialError):
    """A trial whose adapters have to be trained by the solo engine; the message says why."""


PLAIN: dict[str, frozenset[object]] = {
    "lora_bias": frozenset({"none"}),
    "init_lora_weights": frozenset(name for name, start in STARTS.items() if start.packable),
    "optimizer": frozenset({"adamw_torch_fused", "adamw_torch"}),
    "lora_plus_ratio": frozenset({1.0}),
    "group_by_length": frozenset({False}),
}
"""Settings of a run, and the values with which it can be packed."""

MAY_DIFFER = {
    **dict.fromkeys(("study", "stage"), "the base and the rows are the same, whoever asks for the trial"),
    "parameters": "they are in `training` already",
    "training": "each trial has an adapter, an optimizer and a schedule of its own; how the base is held is compared",
    "seed": "each trial draws from its own",
    **dict.fromkeys(("score_test", "keep_adapter", "evaluation"), "done for each trial by itself, at its end"),
    "tracking": "trackers only listen",
    "memory_correction": "each trial has its own micro-batch",
    "share": "the rows of a share are the first of all, and each trial draws from its own",
}
"""Fields of a configuration in which trials of one pack may differ, and why; in all others they are alike."""

SHAPELESS = {
    "method": "how it holds the base is part of the likeness, and the other methods put on the same matrices",
    **dict.fromkeys(("lora_alpha", "lora_alpha_multiplier", "lora_dropout"), "each trial of a pack has its own"),
    **dict.fromkeys(PLAIN, "packed with the values there alone"),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm"), "read by the optimizer of each trial"),
    **dict.fromkeys(
        ("scheduler", "scheduler_cycles", "scheduler_power", "min_lr_rate", "decay_ratio", "warmup_ratio"),
        "read by the schedule of each trial",
    ),
    **dict.fromkeys(
        (
            "epochs",
            "effective_batch",
            "micro_batch",
            "evaluations_per_epoch",
            "evaluation_rows",
            "patience",
            "min_improvement",
        ),
        "decides when a trial steps, is evaluated and ends",
    ),
    "order": "each trial draws its rows by itself",
    **dict.fromkeys(
        (
            "prefix_tokens",
            "scratch_architecture",
            "scratch_width",
            "scratch_layers",
            "scratch_heads",
            "scratch_dropout",
            "scratch_length",
        ),
        "read by methods that are not packed",
    ),
    "activation_checkpointing": "passes of a pack keep their activations",
}
"""Settings of a run that do not decide whether its adapters can be stacked on a base, and why; all others do."""


def refusal(config: TrialConfig) -> str:
    """Why a trial has to be run by the solo engine, or nothing."""
    spec = config.training
    if not METHODS[spec.method].packable:
        return f"method {spec.method} is not a plain low-rank adapter"
    if adapts_embeddings(spec.target_modules):
        return "adapters on embeddings are not packed"
    for name, allowed in PLAIN.items():
        if getattr(spec, name) not in allowed:
            return f"{name} {getattr(spec, name)} is not packed"
    if config.data is not None and config.data.pack_rows:
        return "rows that share a sequence are not cut into passes"
    if config.model is not None and compute_dtype(config.model.dtype) == torch.float16:
        return "float16 needs a loss scale of each trial's own"
    if config.model is not None and held_in(spec.method, config.model.quantisation) == "int8":
        # measured: co-tenants moved a trial's validation loss by 1e-4 of it where activations exceed the threshold
        return "8-bit layers choose their outlier columns over all rows of a pass, so that trials would mix"
    return ""


def likeness(config: TrialConfig) -> str:
    """What trials must have in common to share a pack: the same model held the same way, the same rows."""
    held = held_in(config.training.method, config.model.quantisation) if config.model is not None else "none"
    return f"{held} {config.model_dump_json(exclude=set(MAY_DIFFER))}"


def adapter_shape(config: TrialConfig) -> str:
    """What decides whether adapters can be stacked on a base."""
    return f"{likeness(config)} {config.training.model_dump_json(exclude=set(SHAPELESS))}"


def module_refusal(name: str, module: nn.Module, output: nn.Module | None) -> str:
    """Why adapters on a module cannot be stacked, or nothing; `output` is the model's output embedding."""
    if not isinstance(module, nn.Linear | Conv1D):
        return f"adapters on {name} ({type(module).__name__}) are not packed: it is no linear layer"
    if module is output:
        return f"adapters on the output embedding {name} are not packed: it is computed in chunks"
    return ""
