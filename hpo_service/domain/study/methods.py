"""The ways a model can be trained, and how each of their settings behaves: one table each, with sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        low_rank: whether it puts low-rank adapters on modules, and so reads the lora_ settings.
        base: whether the model's own weights stay as they are, are trained, or are drawn anew.
        preset: the search space to start from.
    """

    summary: str
    source: str
    rates: Rates
    low_rank: bool
    base: Literal["frozen", "trained", "new"]
    preset: str

    @property
    def quantisable(self) -> bool:
        """Whether the base may be held in 4 or 8 bits: not where its own weights are trained."""
        return self.base == "frozen"


METHODS: dict[str, Method] = {
    "lora": Method(
        "low-rank adapters, scaled by alpha / r", "arXiv 2106.09685", Rates(1e-5, 1e-3, 2e-4), True, "frozen", "lora"
    ),
    "qlora": Method(
        "LoRA on a base held in 4 bits (8 with model.quantisation int8)",
        "arXiv 2305.14314",
        Rates(1e-5, 2e-4, 1e-4),
        True,
        "frozen",
        "qlora",
    ),
    "rslora": Method(
        "LoRA scaled by alpha / sqrt(r), for large ranks",
        "arXiv 2312.03732",
        Rates(1e-5, 1e-3, 2e-4),
        True,
        "frozen",
        "lora",
    ),
    "dora": Method(
        "LoRA that learns each weight's magnitude apart from its direction",
        "arXiv 2402.09353",
        Rates(1e-5, 1e-3, 2e-4),
        True,
        "frozen",
        "lora",
    ),
    "full": Method("all of the model's own weights", "", Rates(1e-6, 5e-5, 2e-5), False, "trained", "full"),
    "prefix": Method(
        "keys and values of virtual tokens before every layer's own",
        "arXiv 2101.00190",
        Rates(1e-4, 1e-2, 3e-4),
        False,
        "frozen",
        "prefix",
    ),
    "scratch": Method(
        "a new model of a searched shape, trained from nothing", "", Rates(1e-5, 1e-2, 1e-3), False, "new", "scratch"
    ),
}
"""Methods by the name a study file uses; rates are those of public fine-tuning guides, LoRA's for 1B to 70B models."""

LOW_RANK = frozenset(name for name, method in METHODS.items() if method.low_rank)
"""Methods that read the lora_ settings."""


@dataclass(frozen=True)
class Start:
    """How adapters begin.

    Attributes:
        summary: one line for people.
        moves_base: whether it takes its part out of the base's weights, so that the base serves no other trial.
        quantised: whether it works on a base held in 4 or 8 bits.
    """

    summary: str
    moves_base: bool
    quantised: bool


STARTS: dict[str, Start] = {
    "default": Start("A uniform (Kaiming), B zero: training starts from the base as it is", False, True),
    "gaussian": Start("A normal with deviation 1/r, B zero", False, True),
    "orthogonal": Start("A and B orthogonal to each other; r must be even", False, False),
    "olora": Start("from the QR decomposition of each weight (arXiv 2406.01775)", True, False),
    "pissa": Start("the r largest singular values of each weight (arXiv 2404.02948)", True, False),
    "pissa_niter_16": Start("as pissa by a randomised decomposition: seconds for a 7B model", True, False),
    "mica": Start("B the smallest singular directions and frozen, A zero (arXiv 2604.01694)", False, False),
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
    "prefix_tokens": ("method", frozenset({"prefix"})),
    **dict.fromkeys(
        (
            "scratch_architecture",
            "scratch_width",
            "scratch_layers",
            "scratch_heads",
            "scratch_dropout",
            "scratch_length",
        ),
        ("method", frozenset({"scratch"})),
    ),
    "scheduler_cycles": ("scheduler", frozenset({"cosine_with_restarts"})),
    "scheduler_power": ("scheduler", frozenset({"polynomial"})),
    "min_lr_rate": ("scheduler", frozenset({"cosine_with_min_lr", "warmup_stable_decay", "exponential"})),
    "decay_ratio": ("scheduler", frozenset({"warmup_stable_decay"})),
}
"""Settings that are read only where another one has one of these values."""


def held_in(method: str, quantisation: Quantisation) -> Quantisation:
    """How the base's weights are held: qlora means nf4 unless the study says otherwise."""
    return "nf4" if method == "qlora" and quantisation == "none" else quantisation
