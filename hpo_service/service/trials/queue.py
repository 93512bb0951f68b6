"""The trial queue: claim, report, renew, finish. Each is one transaction that holds our fence and Optuna's write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hpo_service.domain.decide.goals.limits import over_already
from hpo_service.domain.decide.measure import measure_of, reported
from hpo_service.domain.decide.planning.replanning import NOT_PLANNED
from hpo_service.domain.decide.retry import given_up, tried_again
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.assignment import Assignment, Lease
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.endings import SAID, STORED, ends_so
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.domain.trial.planned import CONTROL
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import StaleLeaseError
from hpo_service.failpoint import reach
from hpo_service.search.policy import SearchPolicy, Suggestion
from hpo_service.service.containment import Containment, Work
from hpo_service.service.trials.assignment import assignment
from hpo_service.service.trials.budget import NO_LIMITS, Limits, Withheld, admission, overspent, withheld
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.service.trials.placement import Placement
from hpo_service.service.trials.proposals import Proposals
from hpo_service.service.trials.weighing import weigh, weighed
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StageRow, StudyRow, StudyStore
from hpo_service.storage.trial.trials import FactRows, TrialRow, TrialStore
from hpo_service.storage.workers import WorkerStore

CONTINUE = Decision(action="continue", reason="the lease is held and nobody asked for its end")
COLLISIONS = 20
"""How often a claim may lose its proposed configuration to another worker before it gives way."""


@dataclass(frozen=True)
class Copied:
    """What a claim did instead of giving a trial out: in a space that is used up, one repeats a measured value.

    There may be more to claim at once.
    """


@dataclass(frozen=True)
class Renewal:
    """What a renewal brought back: a decision per lease, and whether the worker was told to drain."""

    decisions: dict[Lease, Decision]
    draining: bool


@dataclass(frozen=True)
class TrialQueue:
    """What workers call. Every write about a trial carries its lease; a stale lease changes nothing.

    A claim either commits whole (budget row, Optuna trial, lease) or leaves no trace. Sampling happens before
    the transaction, as a read, so that a slow sampler holds no lock. All methods raise DatabaseUnavailableError
    when the database is away, and may then be called again with the same arguments.
    """

    db: Database
    studies: StudyStore
    trials: TrialStore
    workers: WorkerStore
    ledger: TrialLedger
    policy: SearchPolicy
    containment: Containment = field(default_factory=Containment)
    placement: Placement | None = None
    """What the worker that asks has, which is given no trial that needs more; None where nothing limits it."""

    def claim(
        self,
        worker_id: str,
        study: str | None = None,
        together: int = 1,
        left: Collection[str] = (),
        limits: Limits = NO_LIMITS,
    ) -> Assignment | Copied | Withheld | None:
        """Take one trial for this worker: a waiting one first, else a new one while the budget lasts.

        Args:
            worker_id: a registered worker.
            study: only this study; by default any active one, oldest first.
            together: trials that its device is divided among, for the account of device time.
            left: names of studies that it does not serve at present.
            limits: what bounds this worker.

        Returns:
            The assignment; `Copied` where a trial came to be that needs no running; `Withheld` where there are trials,
            but its limits forbid them; None where there is nothing to do at present.

        Raises:
            UnreadableStudyError: the one study that was asked for is of another version; of many, such are passed over.
        """
        with self.db.transaction(read_only=True):
            found = [(s, g) for s, g in self.studies.claimable() if s.name not in left]
            open_stages = [(s, g) for s, g in found if study is None or s.name == study]
        forbidden: Withheld | None = None
        for row, stage in open_stages:
            if self.containment.rests(Work.CLAIM, row.name):
                continue
            with self.containment.of(Work.CLAIM, row.name, alone=study is not None):
                withheld_here = self._forbidden(row, stage, limits)
                if withheld_here is not None:
                    forbidden = withheld_here
                    continue
                taken = self._claim_from(row, stage, worker_id, together, limits)
                if taken is not None:
                    return taken
        return forbidden

    def _forbidden(self, study: StudyRow, stage: StageRow, limits: Limits) -> Withheld | None:
        """Why the limits of a worker forbid it a trial that there is."""
        if limits == NO_LIMITS:
            return None
        with self.db.transaction(read_only=True):
            there_is = self.trials.tallies.has(stage.id, TrialState.WAITING) or (
                stage.rule.proposes and admission(stage, self.trials.tallies.total(stage.id), self.trials).open
            )
            return withheld(limits, self.studies.stages(study.id), self.trials) if there_is else None

    def _claim_from(
        self, study: StudyRow, stage: StageRow, worker_id: str, together: int, limits: Limits
    ) -> Assignment | Copied | None:
        _ = study.specification(), stage.rule  # before anything is claimed: either may be of another version
        if self.placement is not None and not self.placement.serves(study, stage):
            return None
        waiting = self._claim_waiting(study, stage, worker_id, together) if self._waits(stage) else None
        return waiting or self._claim_new(study, stage, worker_id, together, limits)

    def _waits(self, stage: StageRow) -> bool:
        """Whether a trial waits: those who find none must not take the lock for it."""
        with self.db.transaction(read_only=True):
            return self.trials.tallies.has(stage.id, TrialState.WAITING)

    def _claim_waiting(self, study: StudyRow, stage: StageRow, worker_id: str, together: int) -> Assignment | None:
        spec = study.specification()
        with self.db.transaction():
            if self._left_out(study, stage, spec):
                return None
            trial = self.ledger.claim(
                stage, worker_id, spec.execution.lease_seconds, devices=spec.execution.gpus_per_trial / together
            )
            if trial is None:
                return None
            # inside: a trial whose configuration cannot be made is not held
            found = assignment(spec, stage, trial, self._measured(spec, stage, trial), self.workers.active())
        reach("claim.committed")
        return found

    def _left_out(self, study: StudyRow, stage: StageRow, spec: StudySpec) -> bool:
        """Give up the planned trials of a stage that the device hours of the whole study leave no room for."""
        if stage.rule.proposes or spec.budget.hours is None:
            return False
        self.studies.lock(study.id)  # one at a time, or several would see the same room
        reason = overspent(spec, self.studies.stages(study.id), self.trials)
        waiting = [] if reason is None else self.trials.list(study.id, stage.id)
        for trial in waiting:
            if trial.state is TrialState.WAITING:
                self.ledger.cancel(trial, f"{NOT_PLANNED}: {reason}")
        return reason is not None

    def _claim_new(
        self, study: StudyRow, stage: StageRow, worker_id: str, together: int, limits: Limits
    ) -> Assignment | Copied | None:
        if not stage.rule.proposes:
            return None
        spec = study.specification()
        proposals = Proposals(self.db, self.studies, self.trials, self.policy)
        for collisions in range(COLLISIONS):
            with self.db.transaction(read_only=True):
                total = self.trials.tallies.total(stage.id)
                if not admission(stage, total, self.trials).open:
                    return None
            suggestion = proposals.next(spec, stage, total + collisions, study.facts)
            if suggestion is None:
                return None
            reach("claim.sampled")
            with self.db.transaction():
                if not self._still_admits(study, stage, limits):
                    return None
                twin = self.trials.find_key(stage.id, suggestion.key) if suggestion.duplicate else None
                if twin is not None and not twin.state.final:
                    return None
                if twin is not None and (twin.value is not None or _ended_valueless(spec, twin)):
                    self.ledger.copy(stage, suggestion.parameters, twin, weigh(spec, stage, twin.facts))
                    return Copied()
                trial = self._admit(spec, stage, suggestion, worker_id, together, distinct=twin is None)
                if trial is None:
                    continue
                found = assignment(spec, stage, trial, self._measured(spec, stage, trial), self.workers.active())
            reach("claim.committed")
            return found
        return None

    def _measured(self, spec: StudySpec, stage: StageRow, trial: TrialRow) -> FactRows:
        """What ended trials tell of their memory; those of later stages may share a model."""
        if spec.model is None:
            return []
        return self.trials.complete_facts(trial.study_id, stage.id if stage.rule.proposes else None)

    def _still_admits(self, study: StudyRow, stage: StageRow, limits: Limits) -> bool:
        """Check the budget once more, now with the study locked: from here on nobody else admits."""
        if self.studies.lock(study.id).state is not StudyState.ACTIVE:
            return False
        if limits != NO_LIMITS and withheld(limits, self.studies.stages(study.id), self.trials) is not None:
            return False
        return admission(stage, self.trials.tallies.total(stage.id), self.trials).open

    def _admit(
        self, spec: StudySpec, stage: StageRow, suggestion: Suggestion, worker_id: str, together: int, *, distinct: bool
    ) -> TrialRow | None:
        return self.ledger.admit(
            stage,
            parameters=suggestion.parameters,
            dedupe_key=suggestion.key if distinct else None,
            role=suggestion.role,
            seed=spec.search.seed,
            worker_id=worker_id,
            lease_seconds=spec.execution.lease_seconds,
            devices=spec.execution.gpus_per_trial / together,
            share=stage.rule.share(spec),
            remark=suggestion.remark,
        )

    def describe(self, study: str, facts: Mapping[str, ModelFacts]) -> None:
        """Store what a child found out about the study's models; planning needs their widths."""
        with self.db.transaction():
            row = self.studies.get(study)
            self.studies.save_facts(row.id, {**row.facts, **facts})

    def report(self, lease: Lease, report: Report) -> Decision:
        """Record one evaluation and decide whether the trial goes on.

        A step that was reported before (by an attempt that was lost later) keeps its first value.

        Raises:
            StaleLeaseError: the trial is no longer held by this lease; nothing was written.
        """
        with self.db.transaction():
            trial = self.trials.hold(lease)
            reach("report.held")
            study, stage = self.studies.of_stage(trial.stage_id)
            spec = study.specification()
            asked = asked_from_outside(study, trial)
            self.ledger.report(trial, report)
            self.trials.extend(lease, spec.execution.lease_seconds, report.fraction)
            reach("report.recorded")
        reach("report.committed")
        if asked is not None:
            return asked
        return self._judge(spec, stage, trial, report)

    def lose_checkpoint(self, lease: Lease, reason: str) -> None:
        """Note that a checkpoint could not be saved, copied or fetched; it is an event, and the trial goes on.

        Raises:
            StaleLeaseError: the trial is no longer held by this lease; nothing was written.
        """
        with self.db.transaction():
            self.ledger.note_lost_checkpoint(self.trials.hold(lease), reason)

    def _judge(self, spec: StudySpec, stage: StageRow, trial: TrialRow, report: Report) -> Decision:
        if not stage.rule.prunes:
            return Decision(action="continue", reason=f"{stage.rule.runs} are never pruned")
        if trial.role == CONTROL:
            return Decision(action="continue", reason="the control is never pruned: others are compared with it")
        over = over_already(spec.search.constraints, report, stage.rule.share(spec))
        if over and spec.search.pruner != "none":  # who asks for whole curves gets them
            return Decision(action="prune", reason=over)
        measure = reported(spec)
        with self.db.transaction(read_only=True):
            verdict = self.policy.judge(
                self.trials.reports.marks(trial.id, measure.direction),
                lambda: self.trials.reports.curves(stage.id, but_not=trial.id),
                stage.rule.search(spec),
                stage.space,
                fraction=report.fraction,
                evaluations=spec.training.evaluations_per_epoch * spec.training.epochs,
                ordinal=trial.ordinal,
                warmup=0.0 if spec.objective else spec.training.warmup_ratio,
                measure=measure,
            )
        return Decision(action="prune" if verdict.prune else "continue", reason=verdict.reason)

    def renew(self, worker_id: str, progress: Mapping[Lease, float], activity: str = "") -> Renewal:
        """Extend all leases of a worker and learn what people asked for meanwhile; also its sign of life.

        Args:
            worker_id: the holder.
            progress: per lease the share of the run done, in [0, 1]; may be empty.
            activity: what the worker is busy with, for people.
        """
        decisions: dict[Lease, Decision] = {}
        with self.db.transaction():
            draining = self.workers.beat(worker_id, activity) == "draining"
            for lease, share in progress.items():
                decisions[lease] = self._renew_one(lease, share, draining=draining)
        reach("renew.committed")
        return Renewal(decisions, draining)

    def _renew_one(self, lease: Lease, share: float, *, draining: bool) -> Decision:
        try:
            trial = self.trials.hold(lease)
        except StaleLeaseError as error:
            return Decision(action="abandon", reason=str(error))
        study, _ = self.studies.of_stage(trial.stage_id)
        spec = study.specification()
        self.trials.extend(lease, spec.execution.lease_seconds, share)
        asked = asked_from_outside(study, trial)
        if asked is None and draining:
            return Decision(action="release", reason="the worker was told to drain")
        return asked or CONTINUE

    def finish(self, lease: Lease, outcome: Outcome) -> TrialState:
        """Settle an attempt: the trial ends, or goes back to the queue with the reason.

        Doing it again changes nothing and gives the same answer: where the connection broke in a commit, nobody
        knows whether it went through, and the holder calls again.

        Returns:
            The state of the trial afterwards.

        Raises:
            StaleLeaseError: the trial is no longer held by this lease; nothing was written.
        """
        with self.db.transaction():
            try:
                trial = self.trials.hold(lease)
            except StaleLeaseError:
                state = self._finished_before(lease, outcome)
                if state is None:
                    raise
                return state
            reach("finish.held")
            ends = SAID[outcome.kind].state.final
            state = self._end(trial, outcome) if ends else self._give_back(trial, outcome)
        reach("finish.committed")
        return state

    def _end(self, trial: TrialRow, outcome: Outcome) -> TrialState:
        study, stage = self.studies.of_stage(trial.stage_id)
        outcome, told = weighed(study.specification(), stage, outcome)
        known = measure_of(study.specification()).known_on_the_way
        return self.ledger.finish(trial, outcome, told, known_on_the_way=known)

    def _finished_before(self, lease: Lease, outcome: Outcome) -> TrialState | None:
        """The state to which this very lease brought its trial with such an outcome, or None where it did not."""
        attempt = self.trials.attempts.of_lease(lease)
        if attempt is None or attempt.outcome not in ends_so(outcome.counts_as):
            return None
        return STORED[attempt.outcome].state

    def _give_back(self, trial: TrialRow, outcome: Outcome) -> TrialState:
        study, _ = self.studies.of_stage(trial.stage_id)
        asked = asked_from_outside(study, trial)
        if asked is not None and asked.action == "cancel":
            return self.ledger.end(trial, TrialState.CANCELLED, asked.reason)
        ending = SAID[outcome.kind]
        if ending.counts is None:
            return self.ledger.give_back(trial, ending.event, outcome.reason)
        limit, errors = study.specification().execution.max_attempts, trial.errors + 1
        if outcome.retryable and errors < limit:
            reason = tried_again(outcome.reason, trial.attempt, errors, limit)
            return self.ledger.give_back(trial, ending.event, reason)
        reason = given_up(outcome.reason, errors) if outcome.retryable else outcome.reason
        return self.ledger.end(trial, TrialState.FAILED, reason, facts=outcome.facts)


def _ended_valueless(spec: StudySpec, twin: TrialRow) -> bool:
    """Whether a trial that was stopped early has no value because only those that run to the end have one."""
    return twin.state is TrialState.PRUNED and not measure_of(spec).known_on_the_way


def asked_from_outside(study: StudyRow, trial: TrialRow) -> Decision | None:
    """Return what a person asked of this running trial, if anything."""
    if trial.cancel_reason:
        return Decision(action="cancel", reason=trial.cancel_reason)
    if study.state is StudyState.CANCELLED:
        return Decision(action="cancel", reason=f"the study was cancelled: {study.reason}")
    if study.state is StudyState.PAUSED:
        return Decision(action="release", reason=f"the study was paused: {study.reason}")
    return None
