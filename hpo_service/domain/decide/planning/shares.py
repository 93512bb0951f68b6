"""How the budget of a whole study is split among its stages: verify and confirm first, search has what they leave."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.study.families import billions
from hpo_service.domain.study.protocol import StageRule, stages_of
from hpo_service.domain.study.spec import StudySpec

PRUNED_SHARE = 0.7
"""Of a whole run that a trial of a stage with pruning takes on average: halving took 0.67 to 0.74 in replays of curves
that learn and of the NMTLC table."""


@dataclass(frozen=True)
class Share:
    """What a stage may have.

    Attributes:
        stage: its name.
        trials: at most.
        hours: device hours; None where the study has no such limit.
        weight: what one of its trials is thought to take, in whole runs of the search's model.
    """

    stage: str
    trials: int
    hours: float | None
    weight: float


def shares(spec: StudySpec) -> list[Share]:
    """Split a study's budget, in the order of its stages.

    Device hours are split by what the trials are thought to take: a run of a model that is n times as large takes n
    times as long, which holds for the products that most of the time goes into; models of unknown size count alike.
    """
    rules = stages_of(spec)
    parts = [(rule, rule.trials(spec), _weight(spec, rule)) for rule in rules]
    whole = sum(trials * weight for _, trials, weight in parts)
    limit = spec.budget.hours
    return [
        Share(rule.name, trials, None if limit is None else limit * trials * weight / whole, weight)
        for rule, trials, weight in parts
    ]


def stage_hours(spec: StudySpec, rule: StageRule) -> float | None:
    """Return the device hours of a stage that a sampler proposes for; None for others, and where nothing bounds it.

    It is its part of the search's own limit, or its share of the study's, whichever is less.
    """
    if not rule.proposes:
        return None
    own, share = spec.search.budget.gpu_hours, next(each.hours for each in shares(spec) if each.stage == rule.name)
    proposed = sum(each.trials(spec) for each in stages_of(spec) if each.proposes)
    limits = (None if own is None else own * rule.trials(spec) / proposed, share)
    return min((hours for hours in limits if hours is not None), default=None)


def _weight(spec: StudySpec, rule: StageRule) -> float:
    pruned = rule.prunes and rule.search(spec).pruner != "none"
    return (PRUNED_SHARE if pruned else 1.0) * rule.share(spec) * _times_as_large(spec, rule)


def _times_as_large(spec: StudySpec, rule: StageRule) -> float:
    model = rule.model_of(spec)
    if spec.model is None or model is None:
        return 1.0
    here, base = billions(model), billions(spec.model.base)
    return here / base if here and base else 1.0
