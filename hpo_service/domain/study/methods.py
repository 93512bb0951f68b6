"""The ways a model can be trained, and how each of their settings behaves: one table each, with sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Quantisation = Literal["none", "nf4", "int8"]


@dataclass(frozen=True)
class Rates:
    """Learning rates that guides give for a method: the ends of the usual range, and where to start."""

    low: float
    high: float
    start: float


@dataclass(frozen=True)
class Method:
    """What is trained, and on what.

    Attributes:
        summary: one line for people.
        source: where it was published.
        rates: usual learning rates.
        preset: the search space to start from.
        base: whether the model's own weights stay as they are, are trained, or are drawn anew.
        held: how the base's weights are held unless the study says otherwise.
        low_rank: whether it puts low-rank adapters on modules, and so reads the lora_ settings.
        scaling: what alpha is divided by to scale these adapters: their rank, or its square root.
        magnitudes: whether it learns the magnitude of each output of a module as well.
        virtual_tokens: whether it puts keys and values of tokens of its own before a sequence.
        checkpointable: whether activations can be computed again in the backward pass.
        packable: whether trials of it can be trained side by side over one base.
        shardable: whether it trains on a base that several devices hold in shares.
    """

    summary: str
    source: str
    rates: Rates
    preset: str
    base: Literal["frozen", "trained", "new"] = "frozen"
    held: Quantisation = "none"
    low_rank: bool = False
    scaling: Literal["rank", "sqrt"] = "rank"
    magnitudes: bool = False
    virtual_tokens: bool = False
    checkpointable: bool = True
    packable: bool = False
    shardable: bool = False

    @property
    def quantisable(self) -> bool:
        """Whether the base may be held in 4 or 8 bits: not where its own weights are trained."""
        return self.base == "frozen"


METHODS: dict[str, Method] = {
    "lora": Method(
        "low-rank adapters, scaled by alpha / r",
        "arXiv 2106.09685",
        Rates(1e-5, 1e-3, 2e-4),
        preset="lora",
        low_rank=True,
        packable=True,
        shardable=True,
    ),
    "qlora": Method(
        "LoRA on a base held in 4 bits (8 with model.quantisation int8)",
        "arXiv 2305.14314",
        Rates(1e-5, 2e-4, 1e-4),
        preset="qlora",
        held="nf4",
        low_rank=True,
        packable=True,
    ),
    "rslora": Method(
        "LoRA scaled by alpha / sqrt(r), for large ranks",
        "arXiv 2312.03732",
        Rates(1e-5, 1e-3, 2e-4),
        preset="lora",
        low_rank=True,
        scaling="sqrt",
        packable=True,
        shardable=True,
    ),
    "dora": Method(
        "LoRA that learns each weight's magnitude apart from its direction",
        "arXiv 2402.09353",
        Rates(1e-5, 1e-3, 2e-4),
        preset="lora",
        low_rank=True,
        magnitudes=True,
    ),
    "full": Method("all of the model's own weights", "", Rates(1e-6, 5e-5, 2e-5), preset="full", base="trained"),
    "prefix": Method(
        "keys and values of virtual tokens before every layer's own",
        "arXiv 2101.00190",
        Rates(1e-4, 1e-2, 3e-4),
        preset="prefix",
        virtual_tokens=True,
        checkpointable=False,
    ),
    "scratch": Method(
        "a new model of a searched shape, trained from nothing",
        "",
        Rates(1e-5, 1e-2, 1e-3),
        preset="scratch",
        base="new",
    ),
}
"""Methods by the name a study file uses; rates are those of public fine-tuning guides, LoRA's for 1B to 70B models."""

LOW_RANK = frozenset(name for name, method in METHODS.items() if method.low_rank)
"""Methods that read the lora_ settings."""


@dataclass(frozen=True)
class Targets:
    """A preset of `target_modules`: what it covers, whether embeddings are among it, and its modules where named.

    Names differ by family: Llama, Qwen, Mistral and Gemma; Phi-3; GPT-NeoX; GPT-2; MPT and Falcon. A model has some.
    """

    summary: str
    embeddings: bool = False
    modules: tuple[str, ...] = ()


TARGETS: dict[str, Targets] = {
    "minimal": Targets(
        "queries and values", modules=("q_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv")
    ),
    "attention": Targets(
        "queries, keys, values and the attention's output",
        modules=(
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "out_proj",
            "qkv_proj",
            "query_key_value",
            "dense",
            "c_attn",
            "attn.c_proj",
            "Wqkv",
        ),
    ),
    "all-linear": Targets("every linear module but the output"),
    "full": Targets("every linear module, the output and embeddings", embeddings=True),
}
"""Presets of target_modules; a study file may name modules instead."""


def adapts_embeddings(targets: str | Sequence[str]) -> bool:
    """Whether these are a preset that puts adapters on embeddings."""
    return isinstance(targets, str) and TARGETS[targets].embeddings


def modules_as_text(value: Any) -> Any:
    """Names of modules as one text, `(q_proj, v_proj)`, since a choice of a search is one value; others as they are."""
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return f"({', '.join(value)})"
    return value


def with_modules_as_text(configuration: Any) -> Any:
    """A configuration whose `target_modules` are one value, as in a search; anything else as it is."""
    if not isinstance(configuration, dict) or "target_modules" not in configuration:
        return configuration
    return {**configuration, "target_modules": modules_as_text(configuration["target_modules"])}


def modules_from_text(value: Any) -> Any:
    """The names of modules in a text that `modules_as_text` wrote; anything else as it is."""
    if isinstance(value, str) and value.startswith("(") and value.endswith(")"):
        return [name.strip() for name in value[1:-1].split(",") if name.strip()]
    return value


@dataclass(frozen=True)
class Start:
    """How adapters begin.

    Attributes:
        summary: one line for people.
        moves_base: whether it takes its part out of the base's weights, so that the base serves no other trial.
        quantised: whether it works on a base held in 4 or 8 bits.
        packable: whether trials that start so can be trained side by side over one base.
        shardable: whether it works on a base that several devices hold in shares.
    """

    summary: str
    moves_base: bool = False
    quantised: bool = False
    packable: bool = False
    shardable: bool = False


STARTS: dict[str, Start] = {
    "default": Start(
        "A uniform (Kaiming), B zero: training starts from the base as it is",
        quantised=True,
        packable=True,
        shardable=True,
    ),
    "gaussian": Start("A normal with deviation 1/r, B zero", quantised=True, packable=True, shardable=True),
    "orthogonal": Start("A and B orthogonal to each other; r must be even", packable=True),
    "olora": Start("from the QR decomposition of each weight (arXiv 2406.01775)", moves_base=True),
    "pissa": Start("the r largest singular values of each weight (arXiv 2404.02948)", moves_base=True),
    "pissa_niter_16": Start("as pissa by a randomised decomposition: seconds for a 7B model", moves_base=True),
    "mica": Start("B the smallest singular directions and frozen, A zero (arXiv 2604.01694)"),
}
"""Values of init_lora_weights."""

ONLY_FOR: dict[str, tuple[str, frozenset[str]]] = {
    **dict.fromkeys(
        (
            "lora_rank",
            "lora_alpha",
            "lora_alpha_multiplier",
            "lora_dropout",
            "lora_bias",
            "lora_plus_ratio",
            "init_lora_weights",
            "target_modules",
        ),
        ("method", LOW_RANK),
    ),
    "prefix_tokens": ("method", frozenset(name for name, method in METHODS.items() if method.virtual_tokens)),
    **dict.fromkeys(
        (
            "scratch_architecture",
            "scratch_width",
            "scratch_layers",
            "scratch_heads",
            "scratch_dropout",
            "scratch_length",
        ),
        ("method", frozenset(name for name, method in METHODS.items() if method.base == "new")),
    ),
    "scheduler_cycles": ("scheduler", frozenset({"cosine_with_restarts"})),
    "scheduler_power": ("scheduler", frozenset({"polynomial"})),
    "min_lr_rate": ("scheduler", frozenset({"cosine_with_min_lr", "warmup_stable_decay", "exponential"})),
    "decay_ratio": ("scheduler", frozenset({"warmup_stable_decay"})),
}
"""Settings that are read only where another one has one of these values."""


def held_in(method: str, quantisation: Quantisation) -> Quantisation:
    """How the base's weights are held: as the study says, or as the method asks for where it says nothing."""
    return METHODS[method].held if quantisation == "none" else quantisation
