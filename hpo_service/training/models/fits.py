"""What of a configuration a model cannot carry: found from its layers' kinds and sizes, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import METHODS, STARTS
from hpo_service.errors import UnfitError
from hpo_service.training.models.reach import holds_quantised

# Starts that take an adapter's rank out of a decomposition of the layer's own weights.
DECOMPOSING = frozenset({"pissa", "pissa_niter_16", "olora"})
# Starts that write factors of the weights as they lie, and Conv1D's lie the other way round.
AS_THEY_LIE = frozenset({"olora"})


def check_fits(base: PreTrainedModel, hyper: Hyperparameters, targeted: dict[str, nn.Module]) -> None:
    """Refuse what this base cannot be trained with.

    Args:
        base: the model, on whatever device.
        hyper: the configuration.
        targeted: its layers that get adapters, by name.

    Raises:
        UnfitError: the first reason, with the way out.
    """
    reason = next(reasons(base, hyper, targeted, quantised=holds_quantised(base)), "")
    if reason:
        raise UnfitError(reason)


def reasons(
    base: PreTrainedModel, hyper: Hyperparameters, targeted: dict[str, nn.Module], *, quantised: bool
) -> Iterator[str]:
    """Why this base cannot be trained this way, each with its remedy; `quantised` is held in 4 or 8 bits."""
    method, start = METHODS[hyper.method], hyper.init_lora_weights
    if method.base == "trained" and quantised:
        yield (
            f"method {hyper.method} trains the base's own weights, and this base holds them in 4 or 8 bits: "
            "use an adapter (method qlora), or the base as it was before quantisation"
        )
    if not method.low_rank:
        return
    if quantised and not STARTS[start].quantised:
        yield f"{start} reads the base's weights, and this base holds them in 4 or 8 bits: use default or gaussian"
    if start in DECOMPOSING and targeted:
        sides = {name: _smaller_side(module) for name, module in targeted.items()}
        name, least = min(sides.items(), key=lambda side: side[1])
        if least < hyper.lora_rank:
            yield (
                f"{start} takes {hyper.lora_rank} directions out of each layer, and {name} has only {least}: "
                f"use a lora_rank of {least} or less, or init_lora_weights default"
            )
    if start in AS_THEY_LIE and any(isinstance(module, Conv1D) for module in targeted.values()):
        family = base.config.model_type
        yield f"{start} does not fit the layers of {family} models (Conv1D): use pissa or default"


def _smaller_side(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return min(module.in_features, module.out_features)
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return min(weight.shape)
