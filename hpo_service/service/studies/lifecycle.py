"""Lifecycle of studies and what people may ask of them and of single trials from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo_service.domain.events import EventKind
from hpo_service.domain.study.protocol import current_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import ConflictError
from hpo_service.service.stages.advance import Stages
from hpo_service.service.studies.checks import require_workable
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.storage.database import Database
from hpo_service.storage.extensions import ExtensionStore
from hpo_service.storage.studies import StageRow, StudyRow, StudyStore
from hpo_service.storage.trial.trials import TrialRow, TrialStore

ALLOWED_FROM: dict[StudyState, frozenset[StudyState]] = {
    StudyState.PAUSED: frozenset({StudyState.ACTIVE, StudyState.DRAINING}),
    StudyState.DRAINING: frozenset({StudyState.ACTIVE}),
    StudyState.ACTIVE: frozenset({StudyState.PAUSED, StudyState.DRAINING, StudyState.FAILED, StudyState.CANCELLED}),
    StudyState.CANCELLED: frozenset({StudyState.ACTIVE, StudyState.PAUSED, StudyState.DRAINING}),
}
"""From which states a person may bring a study into the state that is the key."""

RESUMED_WITH: dict[StudyState, str] = {
    StudyState.FAILED: "queues the failed trials of its last stage again",
    StudyState.CANCELLED: "queues again what its cancelling ended; retry this trial after that",
}
"""What resuming does to a study whose end keeps its trials from being tried again one by one."""

EXTENDED = ("search.budget.", "confirm.seeds", "space.parameters.")
"""What of a study file an extension makes larger."""


@dataclass(frozen=True)
class Studies:
    """Creates, finds and steers studies; `by` is who asks for it, for the account of what happened."""

    db: Database
    rows: StudyStore
    trials: TrialStore
    ledger: TrialLedger
    stages: Stages

    def is_new(self, name: str) -> bool:
        """Whether there is no study of this name yet."""
        with self.db.transaction(read_only=True):
            return self.rows.find(name) is None

    def create(self, spec: StudySpec, by: str = "") -> StudyRow:
        """Create a study and open its search stage, or return it if the very same one exists.

        A study that was extended is the same as the file that it was made of, and goes on as it was extended.

        Raises:
            ConflictError: a study of this name exists with another specification; the message names what differs.
        """
        with self.db.transaction():
            existing = self.rows.find(spec.name)
            if existing is not None:
                if spec not in ExtensionStore.earlier(self.rows.stages(existing.id)[0]):
                    _check_same(existing, spec)
                return existing
            study = self.rows.create(spec, by)
            self.stages.open_first(study)
            return study

    def take_up(self, spec: StudySpec, by: str = "") -> StudyRow:
        """Create a study in order to work on it, or go on with the very same one.

        Raises:
            StudyFailedError: it failed before.
            ConflictError: somebody paused, drained or cancelled it, or its name has another specification.
        """
        study = self.create(spec, by)
        require_workable(study.name, study.state, study.reason)
        return study

    def steer(self, name: str, state: StudyState, reason: str, by: str = "") -> StudyRow:
        """Pause, resume, drain or cancel a study; running trials obey at their next report or heartbeat.

        Resuming a study that failed queues the failed trials of its last stage again, and so does resuming one that
        finished with such trials; resuming one that was cancelled queues those that its cancelling ended. What one
        repeated cause has cost, or nearly, is tried again as if it had never failed.

        Raises:
            NotFoundError: there is no study of this name.
            ConflictError: the study's present state does not allow it.
        """
        with self.db.transaction():
            row = self.rows.lock(self.rows.get(name).id)
            if row.state is state:
                return row
            revived = state is StudyState.ACTIVE and row.state is StudyState.FINISHED and self._failed(row)
            if row.state not in ALLOWED_FROM[state] and not revived:
                raise ConflictError(
                    f"study {name} is {row.state}: it cannot become {state}; see `hpo-service study show {name}`"
                )
            self.rows.set_state(row.id, state, reason, by)
            if state is StudyState.CANCELLED:
                for trial in self._in(row, TrialState.WAITING):
                    self.ledger.cancel(trial, reason, by)
            if row.state is StudyState.FAILED or revived:
                self._retry_failed(row)
            if row.state is StudyState.CANCELLED:
                self._retry_cancelled(row)
            if state is StudyState.ACTIVE:
                self._forgive(row)
            return self.rows.get(name)

    def delete(self, name: str, by: str = "") -> None:
        """Delete a study with all its trials.

        Raises:
            ConflictError: trials are running; cancel the study first.
        """
        with self.db.transaction():
            row = self.rows.lock(self.rows.get(name).id)
            running = self._in(row, TrialState.RUNNING)
            if running:
                raise ConflictError(f"study {name} has {len(running)} running trials: `study cancel {name}` first")
            self.ledger.delete_studies(self.rows.stages(row.id))
            self.rows.delete(row.id)
            self.rows.events.of_study(EventKind.STUDY_DELETED, None, f"study {name} was deleted", study=name, by=by)

    def stop_trial(self, name: str, stage: str, number: int, reason: str, by: str = "") -> TrialRow:
        """Ask for the end of one trial; a running one obeys at its next report or heartbeat."""
        with self.db.transaction():
            trial = self._trial(name, stage, number)
            if trial.state.final:
                raise ConflictError(f"trial {name}/{stage} #{number} is {trial.state}: there is nothing to stop")
            self.ledger.cancel(trial, reason, by)
            return self.trials.get(trial.id)

    def retry_trial(self, name: str, stage: str, number: int, by: str = "") -> TrialRow:
        """Queue a failed or cancelled trial again; it counts once against the budget and gets a new number.

        Raises:
            NotFoundError: there is no such study, stage or trial.
            ConflictError: the trial did not fail and was not cancelled, its study has failed or was cancelled, or a
                later stage was planned from the result of its own.
        """
        with self.db.transaction():
            study = self.rows.lock(self.rows.get(name).id)
            trial = self._trial(name, stage, number)
            if trial.state not in (TrialState.FAILED, TrialState.CANCELLED):
                raise ConflictError(
                    f"trial {name}/{stage} #{number} is {trial.state}: only failed or cancelled ones are queued again"
                )
            _, row = self.rows.of_stage(trial.stage_id)
            if study.state in RESUMED_WITH:
                remedy = f"`hpo-service study resume {name}` {RESUMED_WITH[study.state]}"
                raise ConflictError(f"study {name} is {study.state}, so nobody would take the trial up: {remedy}")
            if not row.open:
                self._reopen(study, row)
            self.ledger.retry(trial, by)
            return self.trials.get(trial.id)

    def _in(self, study: StudyRow, state: TrialState) -> list[TrialRow]:
        return [trial for trial in self.trials.list(study.id) if trial.state is state]

    def _retry_cancelled(self, study: StudyRow) -> None:
        """Queue what the study's cancelling ended in the open stage; what was stopped by itself stays stopped."""
        still_open = {stage.id for stage in self.rows.stages(study.id) if stage.open}
        for trial in self._in(study, TrialState.CANCELLED):
            if trial.stage_id in still_open and not trial.cancel_reason and study.reason in trial.reason:
                self.ledger.retry(trial)

    def _retry_failed(self, study: StudyRow) -> None:
        """Queue again what failed in the last stage: the cause is mended, or it will fail as before."""
        self.rows.reopen_stage(self._current(study).id, "opened again: the study was resumed")
        for trial in self._failed(study):
            self.ledger.retry(trial)

    def _forgive(self, study: StudyRow) -> None:
        """Queue what a repeated cause has cost: the study paused itself for it, and would again at once."""
        found = self.stages.repeated(self._current(study))
        for failure in found.failures if found is not None else ():
            self.ledger.forgive(self.trials.get(failure.trial_id))

    def _failed(self, study: StudyRow) -> list[TrialRow]:
        """The failed trials of the last stage: no later one was planned from its result."""
        last = self._current(study).id
        return [trial for trial in self._in(study, TrialState.FAILED) if trial.stage_id == last]

    def _reopen(self, study: StudyRow, stage: StageRow) -> None:
        """Have a closed stage take up trials again, which only the last one can.

        Raises:
            ConflictError: a later stage was planned from its result.
        """
        if stage.id != self._current(study).id:
            name = f"{study.name}/{stage.stage}"
            raise ConflictError(f"stage {name} is closed: a retried trial could not change its result")
        reason = "opened again: a trial was retried"
        self.rows.reopen_stage(stage.id, reason)
        if study.state is StudyState.FINISHED:
            self.rows.set_state(study.id, StudyState.ACTIVE, reason)

    def _current(self, study: StudyRow) -> StageRow:
        return current_of(self.rows.stages(study.id))

    def _trial(self, name: str, stage: str, number: int) -> TrialRow:
        return self.trials.numbered(self.rows.stage(name, stage), number)


def _check_same(existing: StudyRow, spec: StudySpec) -> None:
    stored = existing.specification().model_dump(mode="json")
    differing = sorted(_differences(stored, spec.model_dump(mode="json"), ""))
    if differing:
        grows = all(path.startswith(EXTENDED) for path in differing)
        more = f"where it asks for more, `hpo-service study extend {spec.name}`; else " if grows else ""
        raise ConflictError(
            f"study {spec.name} exists with another specification (differs in {', '.join(differing[:5])}): "
            f"{more}give the file another name, or `hpo-service study delete {spec.name}`"
        )


def _differences(left: object, right: object, path: str) -> list[str]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        keys: set[Any] = {*left, *right}
        return [d for key in keys for d in _differences(left.get(key), right.get(key), f"{path}.{key}".lstrip("."))]
    return [] if left == right else [path]
