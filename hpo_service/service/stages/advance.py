"""How a study moves on by itself: a stage that is done is closed and the next one opened, by whoever is alive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hpo_service.domain.decide.planning.plan import Plan, Results, enclosing_space
from hpo_service.domain.decide.planning.planners import PLANNERS
from hpo_service.domain.decide.planning.shares import stage_hours
from hpo_service.domain.decide.repeated import IN_A_ROW, Failure, Repeated, repeated
from hpo_service.domain.decide.selection import Choice
from hpo_service.domain.decide.start.kinship import differences
from hpo_service.domain.study.protocol import StageRule, current_of, protocol_of, stage_after, stages_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import ConflictError, NotFoundError
from hpo_service.failpoint import reach
from hpo_service.service.containment import Containment, Work
from hpo_service.service.stages.calibrations import Calibrations, measured
from hpo_service.service.stages.replanning import Replanning
from hpo_service.service.trials.budget import admission
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.storage.database import Database
from hpo_service.storage.extensions import ExtensionStore
from hpo_service.storage.studies import StageRow, StudyRow, StudyStore
from hpo_service.storage.trial.trials import TrialRow, TrialStore

HOPELESS = 3
"""Trials that must fail, with none that succeeded, before a study gives up: the fault is not in the configuration."""


@dataclass(frozen=True)
class Stages:
    """Advances studies; every call is idempotent and safe from any number of processes."""

    db: Database
    studies: StudyStore
    trials: TrialStore
    ledger: TrialLedger
    calibrations: Calibrations
    containment: Containment = field(default_factory=Containment)

    def open_first(self, study: StudyRow) -> None:
        """Open the first stage of a new study; call it in the transaction that creates the study."""
        spec = study.specification()
        rule = stages_of(spec)[0]
        if rule.plan:
            plan = self._plan(study, spec, rule, "", [])
            if plan is None:
                raise ValueError(f"nothing is planned for {rule.name}, the first stage of study {spec.name}")
        else:
            search = rule.search(spec)
            reason = f"{search.sampler} proposes, {search.pruner} prunes{self._warmed(spec)}"
            plan = Plan([], Choice([], reason), spec.space.resolve())
        self._open(study, spec, rule, plan)

    def _warmed(self, spec: StudySpec) -> str:
        """Say which study the search learns from besides, if one, and what is not the same there."""
        if spec.search.warm_start is None:
            return ""
        other = self.studies.find(spec.search.warm_start)
        if other is None:
            named = f"search.warm_start names study {spec.search.warm_start}, which is not in this database"
            raise NotFoundError(f"{named}: see `hpo-service study list`, or leave it out")
        if other.specification().search.direction is not spec.search.direction:
            raise ConflictError(f"study {other.name}, which search.warm_start names, has another search.direction")
        unlike = differences(spec, other.specification())
        scaled = f" (which differs in {', '.join(unlike)}: its values are put on this study's scale)" if unlike else ""
        return f"; learns from what study {other.name} measured, too{scaled}"

    def advance_all(self) -> bool:
        """Advance every active study, each in its own transaction; tell whether any moved."""
        with self.db.transaction(read_only=True):
            rows = self.studies.list(StudyState.ACTIVE)
        moved = False
        for row in rows:
            if self.containment.rests(Work.ADVANCE, row.name):
                continue
            with self.containment.of(Work.ADVANCE, row.name):
                moved = self.advance(row.id) or moved
        return moved

    def advance(self, study_id: int) -> bool:
        """Close the open stage if it is done, and open the next one or end the study.

        Returns:
            Whether anything changed.
        """
        if not self._may_move(study_id):
            return False
        with self.db.transaction():
            study = self.studies.lock(study_id)
            if study.state is not StudyState.ACTIVE:
                return False
            spec = study.specification()
            stages = self.studies.stages(study.id)
            current = current_of(stages)
            rows = self.trials.list(study.id, current.id)
            if self._hopeless(study, rows) or self._spending(study, current, rows):
                return True
            closing = self._why_done(current, rows)
            if closing is None:
                return False
            if self._unmeasured(study, spec, current, rows) or self._extended(study, spec, stages, current, rows):
                return True
            self.studies.close_stage(current.id, closing)
            self._move_on(study, spec, current, rows)
        reach("stage.opened")
        return True

    def _may_move(self, study_id: int) -> bool:
        """Whether the lock is worth taking: workers that idle ask often, and must not hold writers up."""
        with self.db.transaction(read_only=True):
            stages = self.studies.stages(study_id)
            if not stages:
                return False  # deleted since
            stage, tallies = current_of(stages), self.trials.tallies
            succeeded = tallies.has(stage.id, TrialState.COMPLETE, TrialState.PRUNED)
            if not succeeded and tallies.has(stage.id, TrialState.FAILED, at_least=HOPELESS):
                return True
            lost = succeeded and tallies.has(stage.id, TrialState.FAILED, TrialState.WAITING, at_least=IN_A_ROW)
            if lost and self.repeated(stage) is not None:
                return True
            if tallies.has(stage.id, TrialState.WAITING, TrialState.RUNNING):
                return False
            return (
                not stage.rule.proposes or not admission(stage, self.trials.tallies.total(stage.id), self.trials).open
            )

    def _why_done(self, stage: StageRow, rows: Sequence[TrialRow]) -> str | None:
        if any(not row.state.final for row in rows):
            return None
        if stage.rule.proposes:
            verdict = admission(stage, len(rows), self.trials)
            return None if verdict.open else f"{verdict.reason}, and all have ended"
        return f"all {len(rows)} planned trials have ended"

    def _hopeless(self, study: StudyRow, rows: Sequence[TrialRow]) -> bool:
        failed = [row for row in rows if row.state is TrialState.FAILED]
        if len(failed) < HOPELESS or any(row.state in (TrialState.COMPLETE, TrialState.PRUNED) for row in rows):
            return False
        if _others_at_work(rows, {each.worker_id for row in failed for each in self.trials.attempts.of(row.id)}):
            return False
        reason = f"{len(failed)} trials failed and none succeeded, the last with: {failed[-1].reason}"
        self.studies.set_state(study.id, StudyState.FAILED, reason)
        return True

    def repeated(self, stage: StageRow) -> Repeated | None:
        """Return the one cause that has cost trial after trial of a stage since its last success, if there is one.

        A trial counts when waiting did not help it: it failed for good, or again after its first retry. Call it inside
        a transaction.
        """
        spent = self.trials.attempts.spent_on(stage.id)
        return repeated(Failure(attempt.trial_id, attempt.worker_id, attempt.reason) for attempt in spent)

    def _spending(self, study: StudyRow, stage: StageRow, rows: Sequence[TrialRow]) -> bool:
        """Pause a study that has had successes and whose trials now end one after the other for one cause."""
        if not any(row.state in (TrialState.COMPLETE, TrialState.PRUNED) for row in rows):
            return False  # it never worked: whether it is hopeless is asked elsewhere
        found = self.repeated(stage)
        if found is None or _others_at_work(rows, {failure.worker_id for failure in found.failures}):
            return False
        reason = (
            f"{len(found.failures)} trials ended one after the other with the same error, the last with: "
            f"{found.cause}; mend the cause: when the study is resumed they are tried again"
        )
        self.studies.set_state(study.id, StudyState.PAUSED, reason)
        return True

    def _unmeasured(self, study: StudyRow, spec: StudySpec, stage: StageRow, rows: Sequence[TrialRow]) -> bool:
        """Fail a study whose stage is done without a value; the stage stays open, for `study resume` to go on with."""
        ended = [row for row in rows if row.state is TrialState.COMPLETE and row.value is not None]
        broken = [row for row in ended if row.facts.constraints.violated]
        if len(broken) < len(ended) or (ended and stage.rule.compares):
            return False
        following = stage_after(spec, stage.rule)
        what = f"{stage.stage} measured nothing" if following is None else f"{following.name} cannot start"
        reason = f"{what}: no trial of {stage.stage} ran to the end with a finite value{_ended_how(rows)}"
        if broken:
            reason = (
                f"{what}: every trial of {stage.stage} with a finite value broke a limit ({len(broken)} trials), "
                f"#{broken[-1].number} for one: {broken[-1].facts.constraints.violated}; allow more in a new study, "
                f"or extend this one's trials or ranges"
            )
        self.studies.set_state(study.id, StudyState.FAILED, reason)
        return True

    def _extended(
        self,
        study: StudyRow,
        spec: StudySpec,
        stages: Sequence[StageRow],
        current: StageRow,
        rows: Sequence[TrialRow],
    ) -> bool:
        """Add the trials to a planned stage that its own results call for; tell whether there are any."""
        if current.rule.proposes:
            return False
        before = _before(stages, current.rule)
        found = self.trials.list(study.id, before.id) if before is not None else []
        plan = self._plan(study, spec, current.rule, before.stage if before is not None else "", found, rows)
        if plan is None:
            return False
        told = {**current.plan.get("trials", {}), **{t.label: t.reason for t in plan.trials}}
        configurations = [*(row.parameters for row in rows), *(trial.parameters for trial in plan.trials)]
        self.studies.extend_stage(
            current.id,
            trials=len(plan.trials),
            space=enclosing_space(configurations),
            plan={**current.plan, "trials": told},
            reason=plan.reason,
        )
        self.trials.plan(current, plan.trials)
        return True

    def _plan(
        self,
        study: StudyRow,
        spec: StudySpec,
        rule: StageRule,
        stage: str,
        before: Sequence[TrialRow],
        rows: Sequence[TrialRow] = (),
    ) -> Plan | None:
        """Ask a stage's planner what is to be run, and what more where its trials have ended."""
        found = [measured(row) for row in before if row.value is not None]
        so_far = [measured(row) for row in rows]
        calibrations = self.calibrations.of(spec) if rule.carries_over and not rows else []
        return PLANNERS[rule.plan](rule, spec, Results(stage, found, study.facts, so_far, calibrations))

    def _move_on(self, study: StudyRow, spec: StudySpec, current: StageRow, rows: Sequence[TrialRow]) -> None:
        rule = stage_after(spec, current.rule)
        if rule is None:
            self.studies.set_state(study.id, StudyState.FINISHED, _why_finished(spec, current.rule))
            return
        plan = self._plan(study, spec, rule, current.stage, rows)
        if plan is None:
            broken = next((why for row in rows if (why := row.facts.constraints.violated)), "")
            since = f", since limits were broken: {broken}" if broken else ""
            reason = f"{rule.name} cannot start: nothing that {current.stage} measured can be carried over{since}"
            self.studies.set_state(study.id, StudyState.FAILED, reason)
            return
        self._open(study, spec, rule, plan)

    def _open(self, study: StudyRow, spec: StudySpec, rule: StageRule, plan: Plan) -> None:
        name = f"{spec.name}/{rule.name}"
        self.ledger.open_study(name, spec.search.direction, len(rule.goals_of(spec)) - 1)
        stage = self.studies.open_stage(
            study.id,
            rule.name,
            optuna_name=name,
            trials=max(len(plan.trials), rule.trials(spec)) if rule.proposes else len(plan.trials),
            gpu_hours=stage_hours(spec, rule),
            space=plan.space,
            plan=_told(plan) if rule.plan else {},
            reason=plan.reason,
        )
        reach("stage.planned")
        if stage is not None:
            self.trials.plan(stage, plan.trials)
        else:
            self.replanning.replan(study, spec, rule, plan)

    @cached_property
    def replanning(self) -> Replanning:
        """Plans a stage again that was opened before."""
        return Replanning(self.studies, self.trials, self.ledger, ExtensionStore(self.db))

    def plan_again(self, study: StudyRow, rule: StageRule) -> None:
        """Plan a stage that was opened before again, from what the stage before it has measured; study is locked."""
        before = _before(self.studies.stages(study.id), rule)
        if before is None:
            return  # planned from nothing: nothing can change it
        rows = self.trials.list(study.id, before.id)
        plan = self._plan(study, study.specification(), rule, before.stage, rows)
        if plan is not None:
            self.replanning.replan(study, study.specification(), rule, plan)


def _before(stages: Sequence[StageRow], rule: StageRule) -> StageRow | None:
    """The stage from whose results one was planned that was opened; None for a study's first."""
    place = [stage.stage for stage in stages].index(rule.name)
    return stages[place - 1] if place else None


def _told(plan: Plan) -> dict[str, Any]:
    """What is kept of a plan, for people."""
    trials = {trial.label: trial.reason for trial in plan.trials}
    return {"why": plan.reason, "chosen": [m.number for m in plan.choice.chosen], "trials": trials}


def _others_at_work(rows: Sequence[TrialRow], broken: Collection[str]) -> bool:
    """Whether a worker that has not failed yet is at work: it may be the others whose machine is set up wrongly."""
    return any(row.state is TrialState.RUNNING and row.worker_id not in broken for row in rows)


def _ended_how(rows: Sequence[TrialRow]) -> str:
    """Count the ends of a stage's trials, and give the last one's reason; nothing where there were no trials."""
    if not rows:
        return ""
    counts = Counter(row.state.value for row in rows)
    return f" ({', '.join(f'{count} {state}' for state, count in counts.items())}), the last: {rows[-1].reason}"


def _why_finished(spec: StudySpec, rule: StageRule) -> str:
    last = protocol_of(spec)[-1]
    return "all stages have ended" if rule is last else f"{rule.name} has ended; {last.name} is switched off"
