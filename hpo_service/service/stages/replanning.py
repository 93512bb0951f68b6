"""A stage that was opened before is planned again: what it measured stays, what is missing is added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo_service.domain.decide.planning.plan import Plan, enclosing_space
from hpo_service.domain.decide.planning.replanning import NOT_PLANNED, Standing, replanned
from hpo_service.domain.decide.planning.shares import stage_hours
from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.spec import StudySpec
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.storage.extensions import ExtensionStore
from hpo_service.storage.studies import StageRow, StudyRow, StudyStore
from hpo_service.storage.trial.trials import TrialRow, TrialStore


@dataclass(frozen=True)
class Replanning:
    """Brings stages up to new plans, in the transaction of its caller, who has locked the study."""

    studies: StudyStore
    trials: TrialStore
    ledger: TrialLedger
    rows: ExtensionStore

    def replan(self, study: StudyRow, spec: StudySpec, rule: StageRule, plan: Plan) -> None:
        """Open a stage again with what a new plan asks of it beyond the trials that it has.

        Waiting trials that the plan does not name are cancelled, unless a sampler proposed them; running ones end as
        they would.
        """
        stage = next(each for each in self.studies.stages(study.id) if each.stage == rule.name)
        rows = self.trials.list(study.id, stage.id)
        found = replanned(plan.trials, [_standing(row) for row in rows])
        reason = f"planned again, {found.sentence}: {plan.reason}"
        by_id = {row.id: row for row in rows}
        for trial in [] if rule.proposes else found.left_out:
            self.ledger.cancel(by_id[trial], f"{NOT_PLANNED}: {plan.reason}")
        for trial in found.again:
            self.ledger.retry(by_id[trial])
        total = len(rows) + len(found.added)
        held = [*(row.parameters for row in rows), *(trial.parameters for trial in found.added)]
        self.rows.replan(
            stage.id,
            trials=max(total, rule.trials(spec)) if rule.proposes else total,
            gpu_hours=stage_hours(spec, rule),
            space=plan.space if rule.proposes else enclosing_space(held),
            plan=_merged(stage, plan, rows, reason),
        )
        self.trials.plan(stage, found.added)
        self.studies.reopen_stage(stage.id, reason)


def _standing(row: TrialRow) -> Standing:
    return Standing(row.id, row.role, row.label or "", row.parameters, row.seed, row.state, row.reason or "", row.share)


def _merged(stage: StageRow, plan: Plan, rows: Sequence[TrialRow], reason: str) -> dict[str, object]:
    """What was decided for the stage, first and again: all that was carried on stays named."""
    chosen = [*stage.plan.get("chosen", []), *(measured.number for measured in plan.choice.chosen)]
    reasons = {trial.label: trial.reason for trial in plan.trials}
    return {
        "why": reason if rows else plan.reason,
        "chosen": list(dict.fromkeys(chosen)),
        "trials": {**reasons, **stage.plan.get("trials", {})},
    }
