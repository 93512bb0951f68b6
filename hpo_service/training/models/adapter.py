"""What is trained on top of a base: put on for a trial, taken off after it, leaving the base as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, get_peft_model
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import LOW_RANK, METHODS, STARTS, TARGETS, adapts_embeddings
from hpo_service.errors import ModelError, UnfitError
from hpo_service.training.device.faults import is_out_of_memory
from hpo_service.training.models import activation_checkpointing
from hpo_service.training.models.fits import check_fits
from hpo_service.training.models.reach import inner_layers, is_linear, linear_layers

HALF = (torch.float16, torch.bfloat16)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


@contextmanager
def trainable(base: PreTrainedModel, hyper: Hyperparameters, seed: int) -> Iterator[PreTrainedModel | PeftModel]:
    """The model to train: the base with fresh adapters (taken off afterwards), or the base itself.

    Adapters are drawn from `seed` alone, so a base that has served other trials gives the same as a fresh one,
    where `hyper.leaves_base` says so; after anything else the caller must load it again.

    Raises:
        ModelError: the target modules are not in the model.
        UnfitError: this model cannot carry these adapters.
    """
    seed_everything(seed)
    adapt = ADAPTERS.get(hyper.method)
    check_fits(base, hyper, targeted(base, hyper))
    if adapt is None:
        yield base.requires_grad_(True)
        return
    adapted = _put_on(base, adapt(base, hyper), hyper)
    try:
        yield adapted
    finally:
        _take_off(adapted)


def _put_on(base: PreTrainedModel, config: PeftConfig, hyper: Hyperparameters) -> PeftModel:
    try:
        adapted = get_peft_model(base, config)
        _check_start(adapted, hyper)
    # PEFT's checks, decompositions that fail, and shapes that do not match come as many types.
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        if getattr(config, "target_parameters", None):
            reason = (
                f"target_modules names experts of {base.config.model_type}, which lie in one tensor and take "
                f"plain lora without dropout alone ({reason}): leave them out, or set lora_dropout to 0"
            )
        raise UnfitError(f"adapters do not fit the model: {reason}") from error
    _train_in_full_precision(adapted)
    return adapted


def _train_in_full_precision(adapted: PeftModel) -> None:
    """Raise what is trained of a half-precision base (its biases) to float32, or small steps would be lost."""
    for module in adapted.modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad and p.dtype in HALF]
        if own and not isinstance(module, nn.Linear | Conv1D):
            module.float()  # norms compute with weight and bias at once, in one type
        for parameter in own:
            parameter.data = parameter.data.float()


def _check_start(adapted: PeftModel, hyper: Hyperparameters) -> None:
    """Embeddings that an adapter has taken its part out of cannot be told from it afterwards."""
    moved = hyper.reads("init_lora_weights") and STARTS[hyper.init_lora_weights].moves_base
    if moved and any("lora_embedding" in name for name, _ in adapted.named_parameters()):
        raise UnfitError(f"init_lora_weights {hyper.init_lora_weights} does not fit embeddings: use default")


def _take_off(adapted: PeftModel) -> None:
    base = adapted.get_base_model()
    assert isinstance(base, PreTrainedModel)
    if not adapted.active_peft_config.is_prompt_learning:
        adapted.unload()
    # PEFT leaves this mark behind, and warns of a second adapter when it meets it again.
    if hasattr(base, "peft_config"):
        del base.peft_config
    activation_checkpointing.switch_off(base)


def lora_config(base: PreTrainedModel, hyper: Hyperparameters) -> LoraConfig:
    """Translate hyper-parameters to PEFT's configuration for this model."""
    fields: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "r": hyper.lora_rank,
        # PEFT says int, and takes any number; whole ones are written as people write them
        "lora_alpha": int(hyper.alpha) if float(hyper.alpha).is_integer() else hyper.alpha,
        "lora_dropout": hyper.lora_dropout,
        "target_modules": target_modules(base, hyper.target_modules),
        "use_rslora": METHODS[hyper.method].scaling == "sqrt",
        "use_dora": METHODS[hyper.method].magnitudes,
        "bias": hyper.lora_bias,
        "init_lora_weights": hyper.init_lora_weights == "default" or hyper.init_lora_weights,
    }
    return LoraConfig(**fields)


def prefix_config(_base: PreTrainedModel, hyper: Hyperparameters) -> PrefixTuningConfig:
    """Translate hyper-parameters to PEFT's configuration; shapes of keys and values it reads off the model."""
    return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=hyper.prefix_tokens)


ADAPTERS: dict[str, Callable[[PreTrainedModel, Hyperparameters], PeftConfig]] = {
    **dict.fromkeys(LOW_RANK, lora_config),
    "prefix": prefix_config,
}
"""How each method's adapters are configured; methods that are not here train the model's own weights."""


def target_modules(base: PreTrainedModel, wanted: str | list[str]) -> str | list[str]:
    """The names of the modules that get adapters, as PEFT matches them: whole names or their endings.

    Raises:
        ModelError: none of the names, or not all of a given list, occur in the model.
    """
    if wanted == "all-linear":
        names = _without_experts(base, "all-linear")
        return names if names != "all-linear" or _all_are_linear(base) else sorted(inner_layers(base))
    linear = [name for name, _ in linear_layers(base)]
    if adapts_embeddings(wanted):
        return _without_experts(base, sorted({_leaf(name) for name in linear} | set(_embedding_names(base))))
    names = list(TARGETS[wanted].modules) if isinstance(wanted, str) else wanted
    present = [name for name in names if any(_matches(module, name) for module, _ in base.named_modules())]
    if not present or (isinstance(wanted, list) and len(present) < len(wanted)):
        missing = ", ".join(name for name in names if name not in present)
        known = ", ".join(sorted({_leaf(name) for name in linear}))
        raise ModelError(f"target_modules: the model has no module {missing}; its linear modules are {known}")
    return present


def targeted(base: PreTrainedModel, hyper: Hyperparameters) -> dict[str, nn.Module]:
    """The linear layers that get adapters, by name; none where the method has no adapters on modules.

    Raises:
        ModelError: as `target_modules`.
    """
    if hyper.method not in LOW_RANK:
        return {}
    names = target_modules(base, hyper.target_modules)
    if isinstance(names, str):
        return inner_layers(base)
    return {path: module for path, module in linear_layers(base) if any(_matches(path, name) for name in names)}


def _all_are_linear(base: PreTrainedModel) -> bool:
    """Whether what PEFT takes for linear layers is."""
    return all(is_linear(module) for module in base.modules() if isinstance(module, nn.Linear | Conv1D))


def _without_experts(base: PreTrainedModel, names: str | list[str]) -> str | list[str]:
    """The same targets without fused experts and routers.

    In some families PEFT reads names that linear layers had in an earlier transformers as such tensors; adapters on
    those take neither dropout nor most starts, cannot be packed, and are as large as all others together.
    """
    config = LoraConfig(target_modules=names)
    try:
        convert_peft_config_for_transformers(config, base, None)
    except ValueError:  # only some of what is fused was named; that is said when adapters are put on
        return names
    return sorted(config.target_modules or []) if config.target_parameters else names


def _matches(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")


def _leaf(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _embedding_names(base: PreTrainedModel) -> list[str]:
    embedding = base.get_input_embeddings()
    return [_leaf(name) for name, module in base.named_modules() if module is embedding]
