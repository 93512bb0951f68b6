"""Named search spaces that people start from, each with the reason for its ranges."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
)


@dataclass(frozen=True)
class Preset:
    """A named search space: its parameters and why they have these ranges."""

    parameters: dict[str, Parameter]
    reason: str


def _log(low: float, high: float) -> FloatParameter:
    return FloatParameter(low=low, high=high, log=True)


def _uniform(low: float, high: float) -> FloatParameter:
    return FloatParameter(low=low, high=high)


def _one_of(*choices: bool | int | float | str) -> CategoricalParameter:
    return CategoricalParameter(choices=list(choices))


_ADAPTERS: dict[str, ParameterValue | list[ParameterValue]] = {"method": ["lora", "rslora", "dora"]}

PRESETS: dict[str, Preset] = {
    "lora": Preset(
        {
            "learning_rate": _log(5e-5, 5e-4),
            "lora_rank": _one_of(4, 8, 16, 32),
            "lora_alpha_multiplier": _one_of(1, 2),
            "lora_dropout": _uniform(0.0, 0.15),
            "warmup_ratio": _uniform(0.01, 0.1),
            "weight_decay": _uniform(0.0, 0.1),
        },
        "the ranges LoRA guides agree on for a small model and one epoch",
    ),
    "qlora": Preset(
        {
            "learning_rate": _log(1e-5, 2e-4),
            "lora_rank": _one_of(8, 16, 32, 64),
            "lora_alpha_multiplier": _one_of(1, 2),
            "lora_dropout": _uniform(0.0, 0.1),
            "warmup_ratio": _uniform(0.01, 0.1),
            "weight_decay": _uniform(0.0, 0.1),
        },
        "4-bit bases want a learning rate about half that of LoRA, starting at 1e-4",
    ),
    "lora-schedules": Preset(
        {
            "learning_rate": _log(5e-5, 5e-4),
            "lora_rank": _one_of(4, 8, 16, 32),
            "lora_alpha_multiplier": _one_of(1, 2),
            "lora_dropout": _uniform(0.0, 0.15),
            "warmup_ratio": _uniform(0.01, 0.1),
            "weight_decay": _uniform(0.0, 0.1),
            "scheduler": _one_of("cosine", "linear", "constant_with_warmup"),
        },
        "the lora preset with the schedule searched too",
    ),
    "minimal": Preset(
        {"learning_rate": _log(5e-5, 5e-4), "lora_rank": _one_of(8, 16, 32)},
        "the two parameters that matter most, for budgets of about ten trials",
    ),
    "full": Preset(
        {
            "learning_rate": _log(1e-6, 5e-5),
            "warmup_ratio": _uniform(0.01, 0.1),
            "weight_decay": _uniform(0.0, 0.1),
        },
        "full fine-tuning wants a learning rate an order of magnitude below LoRA's",
    ),
    "prefix": Preset(
        {
            "learning_rate": _log(1e-4, 1e-2),
            "prefix_tokens": _one_of(10, 20, 50, 100),
            "warmup_ratio": _uniform(0.01, 0.1),
            "weight_decay": _uniform(0.0, 0.1),
        },
        "prefix tuning wants larger learning rates than LoRA, starting at 3e-4; long prefixes learn slower",
    ),
    "scratch": Preset(
        {
            "learning_rate": _log(1e-4, 1e-2),
            "scratch_width": _one_of(64, 128, 256, 512),
            "scratch_layers": IntParameter(low=2, high=8),
            "scratch_heads": _one_of(2, 4, 8, 16),
            "scratch_dropout": _uniform(0.0, 0.3),
            "warmup_ratio": _uniform(0.01, 0.1),
            "weight_decay": _uniform(0.0, 0.1),
            "effective_batch": _one_of(8, 16, 32, 64),
        },
        "small transformers from scratch: widths and heads that divide each other, around a learning rate of 1e-3",
    ),
    "methods": Preset(
        {
            "method": _one_of("lora", "rslora", "dora", "prefix"),
            "learning_rate": _log(5e-5, 1e-3),
            "lora_rank": CategoricalParameter(choices=[8, 16, 32, 64], when=_ADAPTERS),
            "lora_alpha_multiplier": CategoricalParameter(choices=[1, 2], when=_ADAPTERS),
            "prefix_tokens": CategoricalParameter(choices=[10, 20, 50], when={"method": "prefix"}),
            "warmup_ratio": _uniform(0.01, 0.1),
        },
        "which method? each with its own settings, sampled only where they are read; needs 30 trials or more",
    ),
    "none": Preset({}, "start from nothing: only the parameters listed under `space.parameters`"),
}
"""Search-space presets by name; values are from public fine-tuning guides."""
