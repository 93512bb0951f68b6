"""Carrying a configuration from a small model to a large one: rank and learning rate, each step with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpo_service.domain.decide.transfer.calibration import PRIOR, Calibration, calibrated_exponent
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.transfer import TransferSpec
from hpo_service.domain.trial.model_facts import ModelFacts

HIGHEST_RATE = 1.0
"""No learning rate is above it."""
FAR, FAR_DIVISOR = 10, 4
"""From so many times the weights on practitioners divide the learning rate by so much."""
TINKER_EXPONENTS = {"llama": 0.781, "qwen2": 0.0775, "qwen3": 0.0775}
"""Exponents of tinker-cookbook's formula, by model type."""


@dataclass(frozen=True)
class CarriedConfig:
    """A configuration for the target model, and why it differs from the one it came from."""

    parameters: dict[str, ParameterValue]
    reason: str


@dataclass(frozen=True)
class Known:
    """What a rule may use besides the two models: the study file, and what earlier studies found."""

    transfer: TransferSpec
    calibrations: Sequence[Calibration] = ()


@dataclass(frozen=True)
class ScalingRule:
    """How rank and learning rate of a small model become those of a large one; all else is copied.

    Attributes:
        summary: one line for people.
        source: where it was published or measured.
        rank: from a rank and what the study file says to the carried rank, with the formula in words.
        learning_rate: from a learning rate, the two models and what is known besides, likewise.
        corrects_rank: whether the learning rate falls besides where the rank grows and alpha with it.
    """

    summary: str
    source: str
    rank: Callable[[int, TransferSpec], tuple[int, str]]
    learning_rate: Callable[[float, ModelFacts, ModelFacts, Known], tuple[float, str]]
    corrects_rank: bool = True


def carry_over(
    parameters: dict[str, ParameterValue],
    training: Hyperparameters,
    small: ModelFacts,
    large: ModelFacts,
    transfer: TransferSpec,
    calibrations: Sequence[Calibration] = (),
) -> CarriedConfig:
    """Scale rank and learning rate of a search winner for the target model.

    The alpha multiplier stays, so alpha grows with rank, and a learning rate that was right for the smaller rank is
    too high for the larger one: it falls with the rank too (`rank_exponent`). An alpha that was fixed stays as it is,
    and the rate with it. Warm-up, decay, dropout and batch carry over.

    Args:
        parameters: values sampled in the search stage.
        training: the complete configuration those values resolve to.
        small: facts of the model searched on.
        large: facts of the target model.
        transfer: what the study file says of it.
        calibrations: what earlier studies found.
    """
    rule = rule_of(transfer)
    learning_rate, formula = rule.learning_rate(training.learning_rate, small, large, Known(transfer, calibrations))
    carried: dict[str, ParameterValue] = {**parameters}
    reasons = []
    if METHODS[training.method].low_rank:
        rank, words = rule.rank(training.lora_rank, transfer)
        exponent = rank_exponent(training)
        carried["lora_rank"] = rank
        reasons.append(f"rank {words} = {rank}{_scale_changes(training, rank)}")
        if rule.corrects_rank and exponent and rank != training.lora_rank:
            learning_rate *= (rank / training.lora_rank) ** exponent
            formula += f" x ({rank}/{training.lora_rank})^{exponent:g}, since alpha grows with rank,"
    carried["learning_rate"] = learning_rate
    reasons.append(f"learning rate {formula} = {learning_rate:.3g}")
    if small.family != large.family:
        reasons.append(f"{small.family} and {large.family} are different families: trust the bracket, not the formula")
    return CarriedConfig(carried, "; ".join(reasons))


def rank_exponent(training: Hyperparameters) -> float:
    """Return e of lr x (rank_large/rank_small)^e: by how much a larger rank wants a lower learning rate.

    Measured on the quickstart's model: with alpha = m x rank the best rates at ranks 4, 16 and 64 were 0.0225, 0.0124
    and 0.0062 (e = -0.46); with a fixed alpha 0.0105 and 0.0115 (e = 0). rsLoRA divides alpha by sqrt(rank), which
    leaves half of the growth to be made up for.
    """
    if training.lora_alpha is not None:
        return 0.0
    return {"rank": -0.5, "sqrt": -0.25}[METHODS[training.method].scaling]


def _scale_changes(training: Hyperparameters, rank: int) -> str:
    """Say what becomes of an adapter's scale where alpha is fixed and the rank is not."""
    if training.lora_alpha is None or rank == training.lora_rank:
        return ""
    root = METHODS[training.method].scaling == "sqrt"
    before, after = (training.lora_alpha / (r**0.5 if root else r) for r in (training.lora_rank, rank))
    return f" (alpha {training.lora_alpha:g} is fixed, so the adapter's scale falls from {before:.3g} to {after:.3g})"


def scaled_rank(rank: int, transfer: TransferSpec) -> int:
    """Return the rank that a rank found on the small model has on the large one."""
    return rule_of(transfer).rank(rank, transfer)[0]


def rule_of(transfer: TransferSpec) -> ScalingRule:
    """Return the rule by which a study carries over."""
    return SCALING_RULES[transfer.rule]


def _grown_rank(rank: int, transfer: TransferSpec) -> tuple[int, str]:
    """Rank x factor, at most the cap, but never below the rank that was found."""
    grown = max(rank, min(round(rank * transfer.rank_factor), transfer.rank_cap))
    return grown, f"{rank} x {transfer.rank_factor:g}, at most {transfer.rank_cap},"


def _same_rank(rank: int, _transfer: TransferSpec) -> tuple[int, str]:
    return rank, "as it is"


def _by_width(rate: float, small: ModelFacts, large: ModelFacts, known: Known) -> tuple[float, str]:
    return _powered(rate, small, large, known.transfer.width_exponent)


def _powered(rate: float, small: ModelFacts, large: ModelFacts, exponent: float) -> tuple[float, str]:
    widths = (small.hidden_size, large.hidden_size)
    return rate * width_factor(*widths, exponent), f"{rate:.3g} x ({widths[0]}/{widths[1]})^{exponent:.3g}"


def _by_calibration(rate: float, small: ModelFacts, large: ModelFacts, known: Known) -> tuple[float, str]:
    family = large.family if small.family == large.family else ""
    exponent, source = calibrated_exponent(known.calibrations, family)
    carried, formula = _powered(rate, small, large, exponent)
    return carried, f"{formula} ({source})"


def _as_practitioners(rate: float, small: ModelFacts, large: ModelFacts, _known: Known) -> tuple[float, str]:
    times = size_of(large) / size_of(small)
    divisor = 1 if times <= 1 else FAR_DIVISOR if times >= FAR else 2
    return rate / divisor, f"{rate:.3g} / {divisor} (a model {times:.3g} times as large)"


def _by_tinker(rate: float, small: ModelFacts, large: ModelFacts, _known: Known) -> tuple[float, str]:
    if large.family not in TINKER_EXPONENTS:
        carried, formula = _powered(rate, small, large, PRIOR)
        return carried, f"{formula} (tinker's formula knows {' and '.join(TINKER_EXPONENTS)} only)"
    exponent = TINKER_EXPONENTS[large.family]
    return 5e-4 * (2000 / large.hidden_size) ** exponent, f"5e-4 x (2000/{large.hidden_size})^{exponent:g}"


def _as_it_is(rate: float, _small: ModelFacts, _large: ModelFacts, _known: Known) -> tuple[float, str]:
    return rate, "as it is"


def size_of(model: ModelFacts) -> float:
    """Return the number of a model's weights, or where that is unknown the square of its width, to compare sizes by."""
    return float(model.parameters or model.hidden_size**2)


def width_factor(small: int, large: int, exponent: float) -> float:
    """Return (h_small/h_large)^exponent, the factor on the learning rate."""
    return math.pow(small / large, exponent)


SCALING_RULES: dict[str, ScalingRule] = {
    "width": ScalingRule(
        "rank x rank_factor up to rank_cap, learning rate x (h_small/h_large)^width_exponent",
        "muA, arXiv 2602.06204 (width^-1/2); of the rules compared on public LoRA sweeps it lost least, 0.13% NLL",
        _grown_rank,
        _by_width,
    ),
    "practitioners": ScalingRule(
        "rank x rank_factor up to rank_cap, learning rate halved, a quarter from ten times the weights on",
        "rules of thumb of people who fine-tune: half, or a third to a fifth from 7B to 70B",
        _grown_rank,
        _as_practitioners,
        corrects_rank=False,
    ),
    "tinker": ScalingRule(
        "rank as it is, learning rate 5e-4 x (2000/h_large)^p, whatever the small model's was",
        "tinker-cookbook's formula, with p 0.781 for Llama and 0.0775 for Qwen; 0.38% NLL on its own sweeps",
        _same_rank,
        _by_tinker,
        corrects_rank=False,
    ),
    "copy": ScalingRule(
        "rank and learning rate as they are", "the null hypothesis: 0.17% NLL on the same sweeps", _same_rank, _as_it_is
    ),
    "calibrated": ScalingRule(
        "as width, with the exponent that earlier studies of the family found",
        "the verify stages of this database",
        _grown_rank,
        _by_calibration,
    ),
}
"""Scaling rules by name."""
