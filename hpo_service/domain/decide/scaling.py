"""Carrying a configuration from a small model to a large one: rank and learning rate, each step with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import LOW_RANK
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.transfer import TransferSpec
from hpo_service.domain.trial.model_facts import ModelFacts


@dataclass(frozen=True)
class CarriedConfig:
    """A configuration for the target model, and why it differs from the one it came from."""

    parameters: dict[str, ParameterValue]
    reason: str


def carry_over(
    parameters: dict[str, ParameterValue],
    training: Hyperparameters,
    small: ModelFacts,
    large: ModelFacts,
    rule: TransferSpec,
) -> CarriedConfig:
    """Scale rank and learning rate of a search winner for the target model.

    rank x `rank_factor`, capped; the alpha multiplier stays, so alpha grows with rank, but an alpha that was
    fixed stays as it is. lr x (h_small/h_large)^`width_exponent` (public LoRA sweeps: 0.13% NLL lost on average,
    the least of the rules compared). Everything else is copied: warm-up, decay, dropout and batch carry over.

    Args:
        parameters: values sampled in the search stage.
        training: the complete configuration those values resolve to.
        small: facts of the model searched on.
        large: facts of the target model.
        rule: factors, cap and exponent.
    """
    learning_rate = training.learning_rate * width_factor(small.hidden_size, large.hidden_size, rule.width_exponent)
    carried: dict[str, ParameterValue] = {**parameters, "learning_rate": learning_rate}
    reasons = [
        f"learning rate {training.learning_rate:.3g} x ({small.hidden_size}/{large.hidden_size})"
        f"^{rule.width_exponent:g} = {learning_rate:.3g}"
    ]
    if training.method in LOW_RANK:
        carried["lora_rank"] = rank = scaled_rank(training.lora_rank, rule)
        reasons.insert(0, f"rank {training.lora_rank} x {rule.rank_factor:g}, at most {rule.rank_cap}, = {rank}")
    if small.family != large.family:
        reasons.append(f"{small.family} and {large.family} are different families: trust the bracket, not the formula")
    return CarriedConfig(carried, "; ".join(reasons))


def width_factor(small: int, large: int, exponent: float) -> float:
    """Return (h_small/h_large)^exponent, the factor on the learning rate (muA, arXiv 2602.06204: width^-1/2)."""
    return math.pow(small / large, exponent)


def scaled_rank(rank: int, rule: TransferSpec) -> int:
    """Return rank x factor, at most the cap, but never below the rank that was found."""
    return max(rank, min(round(rank * rule.rank_factor), rule.rank_cap))


def bracket(carried: CarriedConfig, rule: TransferSpec) -> list[CarriedConfig]:
    """Put the configuration at every multiple of its learning rate that is to be tried, in rising order."""
    base = float(carried.parameters["learning_rate"])
    return [
        CarriedConfig(
            {**carried.parameters, "learning_rate": min(1.0, base * factor)}, f"{carried.reason}, then x {factor:g}"
        )
        for factor in sorted(rule.bracket)
    ]
