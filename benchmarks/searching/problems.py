"""Six synthetic searches, shaped like LoRA fine-tuning: six parameters each, with a best point drawn for each seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    ParameterValue,
    SearchSpace,
)

Configuration = Mapping[str, ParameterValue]
Loss = Callable[[Configuration], float]
BEST = 1.5
"""About what the best configuration loses, in nats per token; tables show what is lost beyond."""
DIVERGED = 11.0
"""Nats per token that a run is said to end with which diverges: the loss of a guess among 60,000 tokens."""


@dataclass(frozen=True)
class Problem:
    """A search that is made again and again.

    Attributes:
        name: of the table's row.
        source: where its shape comes from.
        space: what is searched.
        default: where the product begins; empty where the space does not hold it.
        made: draws a loss, in nats per token, to be minimised: its best point differs from seed to seed.
        noise: standard deviation of what a trial measures around it.
    """

    name: str
    source: str
    space: SearchSpace
    default: Configuration
    made: Callable[[np.random.Generator], Loss]
    noise: float = 0.0


RATE = FloatParameter(low=1e-5, high=1e-2, log=True)
"""Wider than guides say, so that the default at 2e-4 is nothing special: best rates are drawn from the middle 80%."""
RANK = CategoricalParameter(choices=[4, 8, 16, 32, 64])
LORA = SearchSpace(
    parameters={
        "learning_rate": RATE,
        "lora_rank": RANK,
        "lora_alpha_multiplier": CategoricalParameter(choices=[1, 2]),
        "lora_dropout": FloatParameter(low=0.0, high=0.15),
        "warmup_ratio": FloatParameter(low=0.01, high=0.1),
        "weight_decay": FloatParameter(low=0.0, high=0.1),
    }
)
DEFAULT: Configuration = {
    "learning_rate": 2e-4,
    "lora_rank": 16,
    "lora_alpha_multiplier": 1,
    "lora_dropout": 0.0,
    "warmup_ratio": 0.03,
    "weight_decay": 0.01,
}
WEAK = {"lora_dropout": 0.15, "warmup_ratio": 0.1, "weight_decay": 0.1}
"""Parameters that matter little, with the ends of their ranges."""


def decades(configuration: Configuration, name: str = "learning_rate") -> float:
    """The decimal logarithm of a parameter."""
    return math.log10(float(configuration[name]))


def drawn_rate(draw: np.random.Generator) -> float:
    """The best rate in decades, from the middle 80% of the range."""
    return float(draw.uniform(-4.7, -2.3))


def valley(off: float, left: float = 0.08, right: float = 0.16) -> float:
    """What a rate costs that is off by so many decades: too high costs more than too low, and more than a parabola."""
    width = left if off < 0 else right
    return width * off * off * (1 + abs(off))


def weak(draw: np.random.Generator, size: float = 0.01) -> Loss:
    """Small parabolas over dropout, warm-up and decay."""
    best = {name: draw.uniform(0, end) for name, end in WEAK.items()}
    return lambda c: sum(size * ((float(c[name]) - best[name]) / end) ** 2 for name, end in WEAK.items())


def _sharp(draw: np.random.Generator) -> Loss:
    best, rest, rank = drawn_rate(draw), weak(draw), draw.uniform(2, 6)

    def loss(c: Configuration) -> float:
        off = decades(c) - best
        return BEST + valley(off, 0.3, 0.6) + 0.005 * (math.log2(float(c["lora_rank"])) - rank) ** 2 + rest(c)

    return loss


def _coupled(draw: np.random.Generator) -> Loss:
    best, rest, gain = drawn_rate(draw), weak(draw), draw.uniform(0.005, 0.02)

    def loss(c: Configuration) -> float:
        rank = math.log10(float(c["lora_rank"]) / 16)
        centre = best - 0.5 * rank - math.log10(float(c["lora_alpha_multiplier"]))
        return BEST + valley(decades(c) - centre) - gain * math.log2(float(c["lora_rank"])) + rest(c)

    return loss


def _diverging(draw: np.random.Generator) -> Loss:
    best, rest = draw.uniform(-4.5, -3.0), weak(draw)
    edge = best + draw.uniform(0.3, 0.7)

    def loss(c: Configuration) -> float:
        update = decades(c) + math.log10(float(c["lora_alpha_multiplier"]))
        if update > edge + 2 * float(c["warmup_ratio"]):
            return DIVERGED
        return BEST + valley(update - best) + 0.004 * (math.log2(float(c["lora_rank"])) - 4) ** 2 + rest(c)

    return loss


METHODS = SearchSpace(
    parameters={
        "method": CategoricalParameter(choices=["lora", "full"]),
        "weight_decay": FloatParameter(low=0.0, high=0.1),
        "warmup_ratio": FloatParameter(low=0.01, high=0.1),
        "learning_rate": FloatParameter(low=1e-6, high=1e-2, log=True),
        "lora_rank": CategoricalParameter(choices=[4, 8, 16, 32, 64], when={"method": "lora"}),
        "lora_dropout": FloatParameter(low=0.0, high=0.15, when={"method": "lora"}),
    }
)


def _conditional(draw: np.random.Generator) -> Loss:
    lora, full = draw.uniform(-4.2, -2.8), draw.uniform(-5.5, -4.2)
    ahead = draw.uniform(-0.05, 0.05)

    def loss(c: Configuration) -> float:
        shared = 0.01 * (float(c["weight_decay"]) / 0.1 - 0.3) ** 2 + 0.01 * (float(c["warmup_ratio"]) / 0.1 - 0.5) ** 2
        if c["method"] == "full":
            return BEST + valley(decades(c) - full) + shared
        rank = 0.004 * (math.log2(float(c["lora_rank"])) - 4) ** 2
        return BEST + ahead + valley(decades(c) - lora) + rank + 0.1 * float(c["lora_dropout"]) + shared

    return loss


CHOICES = SearchSpace(
    parameters={
        "learning_rate": RATE,
        "lora_rank": RANK,
        "target_modules": CategoricalParameter(choices=["minimal", "attention", "all-linear"]),
        "scheduler": CategoricalParameter(choices=["cosine", "linear", "constant_with_warmup", "polynomial"]),
        "effective_batch": CategoricalParameter(choices=[8, 16, 32, 64]),
        "optimizer": CategoricalParameter(choices=["adamw_torch", "lion_32bit", "adafactor"]),
    }
)


def _choices(draw: np.random.Generator) -> Loss:
    best = drawn_rate(draw)
    cost = {
        name: dict(zip(parameter.choices, draw.permutation(np.linspace(0, 0.06, len(parameter.choices))), strict=True))
        for name in ("target_modules", "scheduler", "optimizer")
        if isinstance(parameter := CHOICES.parameters[name], CategoricalParameter)
    }

    def loss(c: Configuration) -> float:
        centre = best + 0.5 * math.log10(float(c["effective_batch"]) / 16) - (c["optimizer"] == "lion_32bit") * 0.7
        named = sum(float(of[c[name]]) for name, of in cost.items())
        return BEST + valley(decades(c) - centre) + named - 0.004 * math.log2(float(c["lora_rank"]))

    return loss


def _shallow(draw: np.random.Generator) -> Loss:
    best, rest = drawn_rate(draw), weak(draw, 0.03)
    return lambda c: BEST + valley(decades(c) - best, 0.04, 0.08) + rest(c)


def _defaults(space: SearchSpace, **others: ParameterValue) -> Configuration:
    """Where practice begins in a space."""
    return {name: {**DEFAULT, **others}[name] for name in space.parameters}


PROBLEMS = (
    Problem(
        "sharp rate",
        "one rate with a narrow valley, everything else nearly flat: the small Llama's sweep (benchmarks/transfer.py)",
        LORA,
        DEFAULT,
        _sharp,
    ),
    Problem(
        "rate x rank",
        "the best rate falls with 1/sqrt(rank) and with alpha, and larger ranks gain a little (muA, arXiv 2602.06204)",
        LORA,
        DEFAULT,
        _coupled,
    ),
    Problem(
        "diverging",
        "beyond an edge that warm-up moves, runs diverge: a quarter to a half of random configurations",
        LORA,
        DEFAULT,
        _diverging,
    ),
    Problem(
        "conditional",
        "LoRA or full fine-tuning, each with a best rate of its own, and settings that only LoRA has",
        METHODS,
        _defaults(METHODS, method="lora"),
        _conditional,
    ),
    Problem(
        "choices",
        "five choices beside the rate: batch and optimizer move the best rate (sqrt rule; Lion: a fifth of AdamW's)",
        CHOICES,
        _defaults(
            CHOICES, target_modules="all-linear", scheduler="cosine", effective_batch=16, optimizer="adamw_torch"
        ),
        _choices,
    ),
    Problem(
        "noise",
        "a shallow valley, measured with noise as between seeds: a fifth of what a rate wrong by a decade costs",
        LORA,
        DEFAULT,
        _shallow,
        noise=0.02,
    ),
)
