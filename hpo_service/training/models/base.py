"""The frozen model that trials share: loaded once, described, and told apart from every other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.methods import METHODS, held_in
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.errors import ModelError
from hpo_service.training.builtin.architecture import Blueprint
from hpo_service.training.builtin.family import BYTES, FAMILY, PREFIX, byte_tokenizer, is_builtin, resolve_model
from hpo_service.training.device.faults import is_out_of_memory
from hpo_service.training.files.node_cache import Progress
from hpo_service.training.models.reach import QUANTISED_WEIGHTS, fused_experts, holds_quantised, weight_count
from hpo_service.training.models.tokenizer import load_tokenizer, tokenizer_fingerprint

# What a configuration tells of its file rather than of the model; all else is part of the fingerprint.
UNDECISIVE = {"_name_or_path": "where the model lies", "transformers_version": "what wrote the file"}
# Values of each weight that go into the fingerprint: fine-tuning moves nearly all of them.
SAMPLED = 64
REASON_CHARS = 300
HALF = (torch.float16, torch.bfloat16)
CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class BaseKey:
    """What makes two trials share a base."""

    name: str
    quantisation: str
    weights: torch.dtype
    compute: torch.dtype
    trust_remote_code: bool
    attention: str | None = None
    revision: str | None = None
    blueprint: Blueprint | None = None
    sharded: bool = False

    @classmethod
    def of(cls, name: str, spec: ModelSpec, method: str, blueprint: Blueprint | None = None) -> BaseKey:
        """Choose precision: weights that are trained themselves are held in float32, or small steps are lost.

        With a blueprint the model is built and `name` gives its tokenizer alone.
        """
        quantisation = held_in(method, spec.quantisation)
        compute = compute_dtype(spec.dtype)
        if compute == torch.float16 and not torch.cuda.is_available():
            raise ModelError("model.dtype float16 needs a GPU: on a CPU use auto, float32 or bfloat16")
        if spec.attention == "flash_attention_2" and not torch.cuda.is_available():
            raise ModelError("model.attention flash_attention_2 needs a GPU: on a CPU use auto, sdpa or eager")
        frozen = METHODS[method].base == "frozen"
        if not frozen and quantisation != "none":
            raise ModelError(f"method {method} cannot train {quantisation} weights: set model.quantisation to none")
        return cls(
            name=name,
            quantisation=quantisation,
            weights=compute if frozen else torch.float32,
            compute=compute,
            trust_remote_code=spec.trust_remote_code,
            attention=None if spec.attention == "auto" else spec.attention,
            revision=spec.revision_of(name),
            blueprint=blueprint,
        )


@dataclass(frozen=True)
class Base:
    """A loaded model with its tokenizer; `padding` is an id that may stand where the mask is 0."""

    key: BaseKey
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    facts: ModelFacts

    @property
    def padding(self) -> int:
        """The tokenizer's padding id where the model has it, or 0: the mask hides it, and no label is made from it."""
        padding = int(self.tokenizer.pad_token_id or 0)
        return padding if 0 <= padding < self.model.config.get_text_config().vocab_size else 0

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """Hash of what decides how text becomes ids: models of one family often share it."""
        return tokenizer_fingerprint(self.tokenizer, self.key.name)


def device() -> torch.device:
    """The device that trials run on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(name: str) -> torch.dtype:
    """The type of matrix products; auto is bfloat16 or float16 on GPUs, float32 on CPUs."""
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.float32
        # older GPUs emulate bfloat16, slower than float32; their float16 is fast
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[name]


def load_base(key: BaseKey, cache: Path, progress: Progress, wanted_later: str | None = None) -> Base:
    """Load a model and its tokenizer; builtin models are made first where the cache does not hold them.

    One that is to be sharded is left on the CPU.

    While another process makes it, this one makes the model that is `wanted_later` rather than wait.

    Raises:
        ModelError: the model or its tokenizer cannot be loaded, or it is not a causal language model.
    """
    if key.blueprint is not None:
        return _built(key, key.blueprint, cache, progress)
    later = None if wanted_later is None else partial(resolve_model, wanted_later, cache, progress)
    path = resolve_model(key.name, cache, progress, meanwhile=later)
    config = causal_config(key.name, path, key.trust_remote_code, key.revision)
    tokenizer = load_tokenizer(key.name, path, key.trust_remote_code, key.revision)
    quantised = _quantisation(key)
    where: dict[str, Any] = {"device_map": {"": device()}} if quantised else {}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=key.weights,
            quantization_config=quantised,
            trust_remote_code=key.trust_remote_code,
            revision=key.revision,
            attn_implementation=key.attention,
            **where,
        )
    # Loading reaches into the hub, remote code and quantisation libraries, which raise what they like.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"model {key.name} cannot be loaded: {reason_of(error)}") from error
    if holds_quantised(model):
        _prepare_quantised(model)
    return _ready(key, model, tokenizer)


def _built(key: BaseKey, blueprint: Blueprint, cache: Path, progress: Progress) -> Base:
    """A new model; only the tokenizer is what `key` names."""
    if key.name == BYTES:
        tokenizer = byte_tokenizer()
    else:
        path = resolve_model(key.name, cache, progress)
        tokenizer = load_tokenizer(key.name, path, key.trust_remote_code, key.revision)
    return _ready(key, blueprint.architecture.build(tokenizer, blueprint.seed, key.attention), tokenizer)


def _ready(key: BaseKey, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Base:
    if key.quantisation == "none" and not key.sharded:
        module: nn.Module = model
        module.to(device())
    facts = ModelFacts(
        family=model.config.model_type,
        hidden_size=model.config.get_text_config().hidden_size,
        parameters=parameter_count(model),
        fingerprint=fingerprint(model),
        shape=ModelShape.read(model.config.to_dict()),
    )
    return Base(key, model, tokenizer, facts)


def describe_model(name: str, trust_remote_code: bool = False) -> ModelFacts:
    """What can be said of a model without its weights: a builtin one need not have been made yet.

    Raises:
        ModelError: the model's configuration cannot be read, or it is not a causal language model.
    """
    recipe = FAMILY.get(name.removeprefix(PREFIX)) if is_builtin(name) else None
    if recipe is not None:
        return ModelFacts(family="llama", hidden_size=recipe.architecture.hidden_size)
    if is_builtin(name):
        raise ModelError(f"there is no builtin model {name}; the builtin models are {', '.join(_builtin_names())}")
    config = causal_config(name, name, trust_remote_code)
    shape = ModelShape.read(config.to_dict())
    return ModelFacts(family=config.model_type, hidden_size=config.get_text_config().hidden_size, shape=shape)


def fingerprint(model: PreTrainedModel) -> str:
    """Hash of the configuration and of every weight's name, shape, type and a sample of its values."""
    digest = hashlib.sha256()
    config = {k: v for k, v in model.config.to_dict().items() if k not in UNDECISIVE}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            flat = weight.detach().reshape(-1)
            sample = flat[:: max(1, flat.numel() // SAMPLED)]
            values = sample if sample.dtype == torch.uint8 else sample.float()
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
            digest.update(values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def parameter_count(model: nn.Module, *, trainable: bool = False) -> int:
    """Number of weights (4-bit ones counted as they were before packing), all or only those trained."""
    return sum(weight_count(each) for each in model.parameters() if each.requires_grad or not trainable)


def causal_config(name: str, path: str, trust_remote_code: bool, revision: str | None = None) -> PretrainedConfig:
    """The configuration of the model that people call `name` and that lies at `path`.

    Raises:
        ModelError: it cannot be read, or the model is not a causal language model.
    """
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            path, trust_remote_code=trust_remote_code, revision=revision
        )
    # Wrong names, no network and broken files come as many types.
    except Exception as error:
        raise ModelError(f"model {name} has no usable configuration: {reason_of(error)}") from error
    architectures = config.architectures or []
    remote = trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    named_causal = not architectures or any(each.endswith(CAUSAL_ENDINGS) for each in architectures)
    if not remote and (
        config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not named_causal
    ):
        kind = architectures[0] if architectures else config.model_type
        raise ModelError(
            f"model {name} is not a causal language model (it is a {kind}); choose one that generates text"
        )
    return config


def _quantisation(key: BaseKey) -> BitsAndBytesConfig | None:
    if key.quantisation == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=key.compute,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if key.quantisation == "int8" else None


def _prepare_quantised(model: nn.Module) -> None:
    """Freeze a base with weights in 4 or 8 bits, and hold the rest in float32, as PEFT prepares it for training.

    But for fused experts, which bitsandbytes leaves as they are: they would need twice the memory.
    """
    experts = {id(weight) for _, weight in fused_experts(model)}
    for weight in model.parameters():
        weight.requires_grad = False
        if weight.dtype in HALF and type(weight).__name__ not in QUANTISED_WEIGHTS and id(weight) not in experts:
            weight.data = weight.data.float()
    _keep_packing(model)


def _keep_packing(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights when a model is evaluated on some CPUs.

    It would round their scales to bfloat16 for good, so that an evaluation would change the training after it;
    and it cannot repack narrow layers.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _builtin_names() -> list[str]:
    return [PREFIX + each for each in FAMILY]


def reason_of(error: Exception) -> str:
    """What a library says, on one line and not too long."""
    return " ".join(str(error).split())[:REASON_CHARS] or type(error).__name__
