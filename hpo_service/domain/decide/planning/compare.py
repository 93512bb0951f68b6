"""The proof: the best configurations and the default run again, with new seeds and in full."""

from __future__ import annotations

from hpo_service.domain.decide.planning.default import default_parameters
from hpo_service.domain.decide.planning.plan import Plan, Results
from hpo_service.domain.decide.selection import choose_top
from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.search import LARGEST_SEED
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.planned import CONTROL, PlannedTrial

CONFIRM_SEED_OFFSET = 1000
"""Confirmation seeds start this far from the search seed, so that none was used before."""


def plan_comparison(rule: StageRule, spec: StudySpec, before: Results) -> Plan | None:
    """Run the best configurations and the default again, with new seeds and in full.

    Returns:
        The plan, or None where no trial of the stage before ran to the end, or this has run already.
    """
    if before.so_far:
        return None
    found = [each for each in before.measured if each.role != CONTROL]
    choice = choose_top(found, spec.confirm.top, spec.search.direction)
    if not choice.chosen:
        return None
    sides: list[tuple[str, dict[str, ParameterValue], int | None]] = [
        (f"winner {rank}", c.parameters, c.trial_id) for rank, c in enumerate(choice.chosen, start=1)
    ]
    default = default_parameters(spec, choice.chosen[0].parameters)
    if default is not None:
        sides.append(("default", default, None))
    seeds = [(spec.search.seed + CONFIRM_SEED_OFFSET + i) % (LARGEST_SEED + 1) for i in range(spec.confirm.seeds)]
    trials = [
        PlannedTrial(
            role=label.split()[0],
            label=label,
            parameters=parameters,
            seed=seed,
            reason=f"{label} with new seed {seed}",
            origin_id=origin,
            score_test=rule.scores_test,
            keep_adapter=rule.keeps_adapter,
        )
        for seed in seeds
        for label, parameters, origin in sides
    ]
    return Plan(trials, choice)
