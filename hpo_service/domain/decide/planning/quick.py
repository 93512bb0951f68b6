"""The cheap protocol: three learning rates on a part of the rows, then rank and double rank on all of them.

It is what practitioners do where a search is too dear, in 5 or 6 runs: three rates over one order of magnitude, judged
after 20% of the steps, then the rank, then a longer warm-up only where training was unsteady.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpo_service.domain.decide.planning.plan import Plan, Results
from hpo_service.domain.decide.selection import Choice, Measured, choose_top
from hpo_service.domain.decide.transfer.row_share import for_all_rows
from hpo_service.domain.decide.transfer.scaling import HIGHEST_RATE, rank_exponent
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.protocol import QUICK_SHARE, StageRule
from hpo_service.domain.study.search_space import CategoricalParameter, ParameterValue
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.planned import PlannedTrial

APART = math.sqrt(10.0)
"""Factor between neighbouring rates: three lie over one order of magnitude."""
LONGER_WARMUP = 0.1
"""Share of the steps spent warming up where a higher rate was lost."""
RATE, RANK, WARMUP = "rate", "rank", "warm-up"
"""Roles of the runs, in their order."""


def plan_quick(rule: StageRule, spec: StudySpec, before: Results) -> Plan | None:
    """Try three learning rates, then with the best of them the rank and its double, then maybe a longer warm-up.

    Returns:
        What is to be run next; None where all was tried, or no rate ran to the end.
    """
    roles = {m.role for m in before.so_far}
    if not roles:
        rates = [_planned(rule, spec, RATE, {"learning_rate": rate}) for rate in first_rates(spec)]
        return Plan(rates, Choice([], "three learning rates over one order of magnitude, on a part of the rows"))
    if RANK not in roles:
        return _ranks(rule, spec, before.so_far)
    return None if WARMUP in roles else _warmup(rule, spec, before.so_far)


def first_rates(spec: StudySpec) -> list[float]:
    """Return the learning rates to begin with, rising: around the middle of the study's own range, else the default."""
    searched = spec.space.parameters.get("learning_rate")
    centre = METHODS[spec.training.method].rates.start
    if searched is not None and not isinstance(searched, CategoricalParameter):
        centre = math.sqrt(searched.low * searched.high)
    elif "learning_rate" in spec.training.model_fields_set:
        centre = spec.training.learning_rate
    return [min(HIGHEST_RATE, centre * factor) for factor in (1 / APART, 1.0, APART)]


def _ranks(rule: StageRule, spec: StudySpec, so_far: Sequence[Measured]) -> Plan | None:
    choice = choose_top(so_far, 1, spec.search.direction)
    if not choice.chosen:
        return None
    best = choice.chosen[0]
    parameters, words = for_all_rows(spec, {"learning_rate": best.parameters["learning_rate"]}, best.share)
    training = spec.training.hyperparameters().with_values(parameters)
    if not METHODS[training.method].low_rank:
        return Plan([_planned(rule, spec, RANK, parameters, words, best)], choice)
    rank, doubled = training.lora_rank, 2 * training.lora_rank
    slower = float(parameters["learning_rate"]) * 2 ** rank_exponent(training)
    trials = [
        _planned(rule, spec, RANK, {**parameters, "lora_rank": rank}, words, best),
        _planned(
            rule,
            spec,
            RANK,
            {"learning_rate": slower, "lora_rank": doubled},
            f"{words}; double the rank, and the learning rate that goes with it",
            best,
        ),
    ]
    return Plan(trials, choice)


def _warmup(rule: StageRule, spec: StudySpec, so_far: Sequence[Measured]) -> Plan | None:
    """Warm up longer where a rate above the best one was lost: training is unsteady nearby."""
    choice = choose_top(so_far, 1, spec.search.direction)
    rates = [m for m in so_far if m.role == RATE]
    if not choice.chosen or choice.chosen[0].role != RANK:
        return None
    tried = choose_top(rates, 1, spec.search.direction).chosen
    best = float(tried[0].parameters["learning_rate"]) if tried else math.inf
    lost = [m for m in rates if float(m.parameters["learning_rate"]) > best and not _ended(m)]
    longer = max(LONGER_WARMUP, spec.training.warmup_ratio)
    if not lost or longer == spec.training.warmup_ratio:
        return None
    parameters: dict[str, ParameterValue] = {**choice.chosen[0].parameters, "warmup_ratio": longer}
    reason = (
        f"learning rate {float(lost[0].parameters['learning_rate']):.3g} was lost: a warm-up of {longer:.0%} is tried"
    )
    planned = _planned(rule, spec, WARMUP, parameters, reason, choice.chosen[0])
    return Plan([planned], Choice(choice.chosen, reason))


def _ended(trial: Measured) -> bool:
    return trial.complete and math.isfinite(trial.value)


def _planned(
    rule: StageRule,
    spec: StudySpec,
    role: str,
    parameters: dict[str, ParameterValue],
    reason: str = "one of three learning rates to begin with",
    origin: Measured | None = None,
) -> PlannedTrial:
    return PlannedTrial(
        role=role,
        parameters=parameters,
        seed=spec.search.seed,
        label=f"{role}: " + ", ".join(f"{name} {value:.3g}" for name, value in parameters.items()),
        reason=reason,
        origin_id=None if origin is None else origin.trial_id,
        score_test=rule.scores_test,
        keep_adapter=rule.keeps_adapter,
        share=QUICK_SHARE if role == RATE else 1.0,
    )
