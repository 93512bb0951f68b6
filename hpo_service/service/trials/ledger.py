"""The ledger: everything that happens to a trial is written here, in both books at once or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpo_service.domain.decide.measured_memory import vram_over_gb
from hpo_service.domain.events import OF_TRIAL, EventKind
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.trial.endings import FINAL, SAID
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialEvent, TrialState
from hpo_service.failpoint import reach
from hpo_service.search.artifact import Artifact
from hpo_service.search.studies import Attributes, OptunaStudies
from hpo_service.service.trials.weighing import NOTHING, Weighed
from hpo_service.storage.studies import StageRow
from hpo_service.storage.trial.trials import TrialRow, TrialStore
from hpo_service.storage.values import finite


@dataclass(frozen=True)
class TrialLedger:
    """Writes trials: our rows, which are the truth, and Optuna's study, which samplers and optuna-dashboard read.

    Every method belongs inside `database.transaction()`, and is undone with it in both books. A trial is in Optuna's
    study from its first claim on; a planned one that nobody took is in our rows alone. Every move is an event.
    """

    trials: TrialStore
    optuna: OptunaStudies

    def open_study(self, name: str, direction: Direction, costs: int = 0) -> None:
        """Begin Optuna's study of a stage that the caller opens, unless it is there; costs are further goals."""
        self.optuna.create(name, direction, costs)

    def delete_studies(self, stages: Iterable[StageRow]) -> None:
        """Delete Optuna's studies of the stages of a study whose rows the caller deletes."""
        for stage in stages:
            self.optuna.delete(stage.optuna_name)

    # what optuna-dashboard shows beside values

    def changed_attributes(
        self,
        stage: StageRow,
        signed: str,
        note: str,
        of_trials: Mapping[int, str],
        artifacts: Mapping[int | None, Sequence[Artifact]],
    ) -> Attributes:
        """Return as attributes those notes and artifacts that say something new, by the trial's number or None."""
        notes: dict[int | None, str] = dict(of_trials.items())
        notes[None] = note
        return self.optuna.changed_attributes(stage.optuna_name, signed, notes, artifacts)

    def set_attributes(self, stage: StageRow, attributes: Attributes) -> None:
        """Write what `changed_attributes` returned."""
        self.optuna.set_attributes(stage.optuna_name, attributes)

    # how trials begin

    def claim(self, stage: StageRow, worker_id: str, lease_seconds: float, devices: float) -> TrialRow | None:
        """Give the oldest waiting trial of a stage to a worker; None where there is none."""
        trial = self.trials.claim_waiting(stage.id, worker_id, lease_seconds, devices)
        if trial is None:
            return None
        reach("claim.taken")
        return self._claimed(trial if trial.optuna_id is not None else self._bind(stage, trial))

    def admit(
        self,
        stage: StageRow,
        *,
        parameters: Mapping[str, ParameterValue],
        dedupe_key: str | None,
        seed: int,
        worker_id: str,
        lease_seconds: float,
        devices: float,
        share: float = 1.0,
        role: str = "search",
        remark: str = "",
    ) -> TrialRow | None:
        """Add a proposed trial that this worker runs at once, with a remark on how it came; see `TrialStore.admit`."""
        trial = self.trials.admit(
            stage,
            parameters=parameters,
            dedupe_key=dedupe_key,
            role=role,
            seed=seed,
            worker_id=worker_id,
            lease_seconds=lease_seconds,
            devices=devices,
            share=share,
        )
        if trial is None:
            return None
        reach("claim.reserved")
        return self._claimed(self._bind(stage, trial), remark)

    def copy(
        self, stage: StageRow, parameters: Mapping[str, ParameterValue], twin: TrialRow, weighed: Weighed = NOTHING
    ) -> None:
        """Add a trial that ends at once as its twin did, with the value, if any, that this measured."""
        copy = self.trials.admit(
            stage,
            parameters=parameters,
            dedupe_key=None,
            role="search",
            seed=twin.seed,
            worker_id=None,
            lease_seconds=0.0,
        )
        if copy is None:
            return
        copy = self._bind(stage, copy)
        curve = {row.step: row.value for row in self.trials.reports.of(twin.id) if row.value is not None}
        self.optuna.add_reports(_bound(copy), curve)
        self.optuna.finish(_bound(copy), twin.state, twin.value, None, weighed.costs, weighed.excesses, or_last=False)
        reused = "its measured value is reused" if twin.value is not None else f"it was {twin.state} and is so again"
        reason = f"the same configuration as trial #{twin.number}: {reused}"
        kept = RunFacts(constraints=twin.facts.constraints)
        self.trials.settle(copy.id, twin.state, reason=reason, value=twin.value, copied_from=twin.id, facts=kept)
        self.trials.events.of_trial(EventKind.TRIAL_COPIED, copy, reason, value=twin.value)

    def _claimed(self, trial: TrialRow, remark: str = "") -> TrialRow:
        self._note(EventKind.TRIAL_CLAIMED, trial, "; ".join(said for said in (trial.reason, remark) if said))
        return trial

    def _bind(self, stage: StageRow, trial: TrialRow) -> TrialRow:
        handle = self.optuna.add_running(stage.optuna_name, trial.parameters, stage.space)
        self.trials.bind(trial.id, handle.optuna_id, handle.number)
        reach("claim.bound")
        return self.trials.get(trial.id)

    # what a holder tells

    def report(self, trial: TrialRow, report: Report) -> None:
        """Record an evaluation of a trial that the caller holds; a step that was reported before keeps its value."""
        if self.trials.reports.add(trial, report):
            self.optuna.report(_bound(trial), report.step, report.value)

    def note_lost_checkpoint(self, trial: TrialRow, reason: str) -> None:
        """Note that a trial which the caller holds goes on without a checkpoint that it should have."""
        self._note(EventKind.CHECKPOINT_LOST, trial, reason)

    def finish(
        self, trial: TrialRow, outcome: Outcome, weighed: Weighed = NOTHING, *, known_on_the_way: bool = True
    ) -> TrialState:
        """End a trial as its holder saw it end, with everything it measured; the outcome must be an end.

        The books decide on the value of a pruned trial, not its holder: it may have heard more, or (after a resume)
        less, than was recorded.

        Args:
            trial: held by the caller.
            outcome: how it ended.
            weighed: what its sampler is told of its costs and limits.
            known_on_the_way: whether what trials report is what they are worth; else one that was stopped early has no
                value, for what it reported is another measure than that of complete ones.
        """
        ending, reason, value = SAID[outcome.counts_as], outcome.reason, finite(outcome.value)
        if outcome.counts_as is not outcome.kind:
            reason = f"the final value is not a finite number ({outcome.value}): {reason}"
        elif ending.state is TrialState.PRUNED:
            recorded = self.trials.reports.last_value(trial.id)
            value = (value if recorded is None else recorded) if known_on_the_way else None
        violation = vram_over_gb(outcome.facts.memory, infeasible=ending.state is TrialState.INFEASIBLE)
        self.optuna.finish(
            _bound(trial),
            ending.state,
            value,
            violation,
            weighed.costs,
            weighed.excesses,
            or_last=known_on_the_way,
        )
        reach("finish.told")
        if outcome.validation is not None:
            self.trials.scores.save(trial.id, "validation", outcome.validation)
        if outcome.test is not None:
            self.trials.scores.save(trial.id, "test", outcome.test)
        if outcome.test_answers is not None:
            self.trials.scores.save(trial.id, "test_answers", outcome.test_answers)
        self.trials.settle(
            trial.id,
            ending.state,
            reason=reason,
            value=value,
            adapter=outcome.adapter,
            facts=outcome.facts,
            device_seconds=outcome.shared_seconds,
        )
        self._note(OF_TRIAL[ending.event], trial, reason, value=value)
        return ending.state

    # how a trial ends or goes on without a result

    def end(self, trial: TrialRow, state: TrialState, reason: str, facts: RunFacts | None = None) -> TrialState:
        """End a trial without a result: it failed or is cancelled."""
        if trial.optuna_id is not None:
            self.optuna.finish(trial.optuna_id, state, None, None)
        self.trials.settle(trial.id, state, reason=reason, facts=facts)
        self._note(OF_TRIAL[FINAL[state].event], trial, reason)
        return state

    def give_back(self, trial: TrialRow, event: TrialEvent, reason: str) -> TrialState:
        """Have a running trial wait for its next attempt; in Optuna's study it goes on as running."""
        self._note(OF_TRIAL[event], trial, reason)
        return self.trials.requeue(trial.id, event, reason=reason).state

    def cancel(self, trial: TrialRow, reason: str, by: str = "") -> None:
        """End a waiting trial, or ask the holder of a running one to stop.

        Raises:
            ConflictError: the trial has ended.
        """
        row = self.trials.cancel(trial.id, reason)
        if row.state is TrialState.CANCELLED and row.optuna_id is not None:
            self.optuna.finish(row.optuna_id, row.state, None, None)
        kind = EventKind.TRIAL_STOP_ASKED if row.state is TrialState.RUNNING else EventKind.TRIAL_CANCELLED
        self._note(kind, trial, reason, by=by)

    def retry(self, trial: TrialRow, by: str = "") -> None:
        """Queue a failed or cancelled trial again; its next claim makes it a new trial of Optuna's study.

        Raises:
            ConflictError: the trial neither failed nor was cancelled.
        """
        self._note(EventKind.TRIAL_RETRIED, trial, f"was {trial.state}: {trial.reason}", by=by)
        self.trials.retry(trial.id)

    def forgive(self, trial: TrialRow) -> None:
        """Have a trial that was lost to errors, or nearly, tried as if there had been none: their cause is mended."""
        if trial.state is TrialState.FAILED:
            self.trials.retry(trial.id)
        else:
            self.trials.forgive(trial.id)

    def _note(self, kind: EventKind, trial: TrialRow, reason: str, **details: object) -> None:
        self.trials.events.of_trial(kind, trial, reason, trial.worker_id, attempt=trial.attempt, **details)


def _bound(trial: TrialRow) -> int:
    if trial.optuna_id is None:
        raise ValueError(f"trial {trial.id} is running without an Optuna trial")
    return trial.optuna_id
