"""What the books add to a trial that has ended: which limits it broke, and what its sampler is told of its costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpo_service.domain.decide.goals.costs import COSTS, on_all_rows, to_the_end
from hpo_service.domain.decide.goals.limits import excesses, violation
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.endings import SAID
from hpo_service.domain.trial.facts import ConstraintFacts, RunFacts
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.domain.trial.states import TrialState
from hpo_service.storage.studies import StageRow


@dataclass(frozen=True)
class Weighed:
    """What is told to Optuna of a trial beside its value.

    Attributes:
        costs: what it reached in each goal beside the loss, in their order; None where that is not known.
        excesses: by limit, how far it is beyond; above 0 where it broke the limit.
    """

    costs: tuple[float | None, ...] = ()
    excesses: Mapping[str, float] = field(default_factory=dict)


NOTHING = Weighed()


def weigh(spec: StudySpec, stage: StageRow, facts: RunFacts) -> Weighed:
    """Weigh what a run cost; only stages that propose have the study's several goals.

    One on a share of the rows is weighed as if it had been trained on all of them.
    """
    facts = on_all_rows(facts, stage.rule.share(spec))
    costs = [COSTS[name].of(facts) for name in stage.rule.goals_of(spec)[1:]]
    return Weighed(tuple(costs), excesses(spec.search.constraints, facts))


def weighed(spec: StudySpec, stage: StageRow, outcome: Outcome) -> tuple[Outcome, Weighed]:
    """Return an attempt's outcome with the limits that it broke among its facts, and what its sampler is told.

    A run that was stopped early is weighed as if it had gone on at its pace.
    """
    stopped = SAID[outcome.counts_as].state is TrialState.PRUNED
    facts = to_the_end(outcome.facts) if stopped else outcome.facts
    broken = violation(spec.search.constraints, on_all_rows(facts, stage.rule.share(spec)))
    if broken:
        noted = outcome.facts | RunFacts(constraints=ConstraintFacts(violated=broken))
        outcome = outcome.model_copy(update={"facts": noted})
    return outcome, weigh(spec, stage, facts)
