"""From small to large: the best configurations run on the target model, each at a bracket of learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from hpo_service.domain.decide.planning.bracket import beyond, factor_of, factors, label_of
from hpo_service.domain.decide.planning.default import default_parameters
from hpo_service.domain.decide.planning.plan import Plan, Results
from hpo_service.domain.decide.selection import Choice, Measured, choose_top
from hpo_service.domain.decide.transfer.scaling import HIGHEST_RATE, CarriedConfig, carry_over
from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.search_space import ParameterValue, canonical_key
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.planned import CARRIED, CONTROL, EXTENDED, PlannedTrial


def plan_carried(rule: StageRule, spec: StudySpec, before: Results) -> Plan | None:
    """Carry the best configurations to the target model, each at a short learning-rate bracket, beside the default.

    Asked again, it goes on beyond the edge of the best configuration's bracket while the best lies there, for
    `transfer.extend` trials at most.

    Returns:
        The plan, or None where no trial of the stage before ran to the end, or nothing is to be added.

    Raises:
        ValueError: the study has no target model, or nothing is known of its models.
    """
    _models(spec)
    return _extended(rule, spec, before) if before.so_far else _opened(rule, spec, before)


def _opened(rule: StageRule, spec: StudySpec, before: Results) -> Plan | None:
    choice = choose_top(before.measured, spec.transfer.top, spec.search.direction, spec.space.resolve())
    if not choice.chosen:
        return None
    trials: dict[str, PlannedTrial] = {}
    for planned in _bracketed(rule, spec, before, choice):
        trials.setdefault(canonical_key(planned.parameters), planned)
    control = default_parameters(spec, choice.chosen[0].parameters)
    if control is not None and spec.transfer.control:
        reason = "the default as it is, to see what searching and carrying over are worth"
        trials.setdefault(canonical_key(control), _trial(rule, spec, control, CONTROL, "default", reason))
    return Plan(list(trials.values()), choice)


def _bracketed(rule: StageRule, spec: StudySpec, before: Results, choice: Choice) -> Iterator[PlannedTrial]:
    large = _facts_of(_models(spec)[1], before.facts)
    for origin in choice.chosen:
        carried = _carried(spec, before, origin)
        rate = float(carried.parameters["learning_rate"])
        for factor in factors(spec.transfer.bracket, rate, large.hidden_size):
            yield _at(rule, spec, carried, origin, before.stage, factor)


def _extended(rule: StageRule, spec: StudySpec, before: Results) -> Plan | None:
    """Go on beyond the edge of the bracket in which the best trial lies, while it does."""
    best = choose_top((m for m in before.so_far if m.role in (CARRIED, EXTENDED)), 1, spec.search.direction).chosen
    origin = next((m for m in before.measured if best and m.trial_id == best[0].origin_id), None)
    spent = sum(m.role == EXTENDED for m in before.so_far)
    if origin is None or spent >= spec.transfer.extend:
        return None
    tried = {m.trial_id: factor_of(m.group) for m in before.so_far if m.origin_id == origin.trial_id}
    edge = beyond([factor for factor in tried.values() if factor is not None], tried[best[0].trial_id] or 1.0)
    if edge is None:
        return None
    reached = best[0].parameters
    rate = float(reached["learning_rate"]) * edge.factor / (tried[best[0].trial_id] or 1.0)
    if rate > HIGHEST_RATE:
        return None
    carried = CarriedConfig({**reached, "learning_rate": rate}, f"{best[0].group} ended best; {edge.reason}")
    trial = replace(_at(rule, spec, carried, origin, before.stage, 1.0), role=EXTENDED, reason=carried.reason)
    return Plan([replace(trial, label=label_of(before.stage, origin.number, edge.factor))], Choice(best, edge.reason))


def _carried(spec: StudySpec, before: Results, origin: Measured) -> CarriedConfig:
    base, target = _models(spec)
    resolved = spec.training.hyperparameters().with_values(origin.parameters)
    if target == base:
        itself = {**origin.parameters, "learning_rate": resolved.learning_rate}
        return CarriedConfig(itself, "base and target are one model: the configuration itself")
    small, large = (_facts_of(model, before.facts) for model in (base, target))
    return carry_over(origin.parameters, resolved, small, large, spec.transfer, before.calibrations)


def _models(spec: StudySpec) -> tuple[str, str]:
    if spec.model is None or spec.model.target is None:
        raise ValueError(f"study {spec.name} has no target model to carry over to")
    return spec.model.base, spec.model.target


def _facts_of(model: str, facts: Mapping[str, ModelFacts]) -> ModelFacts:
    if model not in facts:
        raise ValueError(f"nothing is known about model {model}: no trial described it; please report this")
    return facts[model]


def _at(
    rule: StageRule, spec: StudySpec, carried: CarriedConfig, origin: Measured, stage: str, factor: float
) -> PlannedTrial:
    rate = min(HIGHEST_RATE, float(carried.parameters["learning_rate"]) * factor)
    parameters, label = {**carried.parameters, "learning_rate": rate}, label_of(stage, origin.number, factor)
    return _trial(rule, spec, parameters, CARRIED, label, f"{carried.reason}, then x {factor:.3g}", origin.trial_id)


def _trial(
    rule: StageRule,
    spec: StudySpec,
    parameters: Mapping[str, ParameterValue],
    role: str,
    label: str,
    reason: str,
    origin_id: int | None = None,
) -> PlannedTrial:
    return PlannedTrial(
        role=role,
        parameters=parameters,
        seed=spec.search.seed,
        label=label,
        reason=reason,
        origin_id=origin_id,
        score_test=rule.scores_test,
        keep_adapter=rule.keeps_adapter,
    )
