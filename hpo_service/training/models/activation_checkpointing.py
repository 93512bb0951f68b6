"""What transformers calls recomputing activations: before its release 5.23 everything about it had another name."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

NAMES = ("activation_checkpointing", "gradient_checkpointing")
NAME = next(name for name in NAMES if hasattr(PreTrainedModel, f"is_{name}"))
"""Beginning of its methods' names, and the name of the Trainer's argument."""


def argument(on: bool) -> dict[str, Any]:
    """The Trainer's argument, by its name."""
    return {NAME: on}


def switch_off(model: PreTrainedModel) -> None:
    """Have a model keep its activations, where it does not already."""
    if getattr(model, f"is_{NAME}"):
        getattr(model, f"{NAME}_disable")()
