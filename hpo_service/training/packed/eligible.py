"""Which trials can share a pack, and why another cannot."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from hpo_service.domain.trial import TrialConfig

METHODS = frozenset({"lora", "qlora", "rslora"})
OPTIMIZERS = frozenset({"adamw_torch_fused", "adamw_torch"})
SEEDED = frozenset({"default", "gaussian", "orthogonal"})


def refusal(config: TrialConfig) -> str:
    """Why a trial has to be run by the solo engine, or nothing."""
    spec = config.training
    if spec.method not in METHODS:
        return f"method {spec.method} is not a plain low-rank adapter"
    if spec.target_modules == "full":
        return "adapters on embeddings are not packed"
    return ""


def base_refusal(model: PreTrainedModel) -> str:
    """Why no trial on this base can be packed, or nothing."""
    dropping = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p > 0]
    attention = getattr(model.config.get_text_config(), "attention_dropout", 0.0) or 0.0
    if dropping or attention > 0:
        what = dropping[0] if dropping else "attention"
        return f"the base has dropout of its own ({what}), whose masks would depend on the other trials"
    return ""
