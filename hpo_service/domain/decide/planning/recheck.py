"""From a share of the rows to all of them: the best configurations run again."""

from __future__ import annotations

from hpo_service.domain.decide.planning.plan import Plan, Results
from hpo_service.domain.decide.selection import choose_top
from hpo_service.domain.decide.transfer.row_share import for_all_rows
from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.search_space import canonical_key
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.planned import PlannedTrial


def plan_recheck(rule: StageRule, spec: StudySpec, before: Results) -> Plan | None:
    """Run the best distinct configurations of a share of the rows on all of them, with the learning rate for as many.

    Returns:
        The plan, or None where no trial of the stage before ran to the end, or this has run already.
    """
    if before.so_far:
        return None
    choice = choose_top(before.measured, spec.transfer.top, spec.search.direction, spec.space.resolve())
    trials: dict[str, PlannedTrial] = {}
    for origin in choice.chosen:
        parameters, words = for_all_rows(spec, origin.parameters, origin.share)
        planned = PlannedTrial(
            role="recheck",
            parameters=parameters,
            seed=spec.search.seed,
            label=f"{before.stage} #{origin.number}",
            reason=words,
            origin_id=origin.trial_id,
            score_test=rule.scores_test,
            keep_adapter=rule.keeps_adapter,
        )
        trials.setdefault(canonical_key(parameters), planned)
    return Plan(list(trials.values()), choice) if trials else None
