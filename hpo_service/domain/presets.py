"""Named search spaces that people start from, each with the reason for its ranges."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.space import CategoricalParameter, FloatParameter, Parameter


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
    "none": Preset({}, "start from nothing: only the parameters listed under `space.parameters`"),
}
"""Search-space presets by name; values are from public fine-tuning guides."""
