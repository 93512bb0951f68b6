"""Whether a study is there, open to work, ended, or failed: what those ask who are about to work on it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from hpo_service.domain.decide.placement import Resources, needs_of
from hpo_service.domain.study.protocol import stages_of
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import (
    ConflictError,
    DatabaseUnavailableError,
    HpoServiceError,
    NotFoundError,
    ServedStudyFailedError,
    StudyFailedError,
    UnfitWorkerError,
    UnreadableStudyError,
)
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyStore

HELD = (StudyState.PAUSED, StudyState.DRAINING)
"""States in which a study has not ended, but nobody takes up its trials."""


@dataclass(frozen=True)
class StudyChecks:
    """Asks the database about studies; changes nothing."""

    db: Database
    studies: StudyStore

    def require(self, study: str, has: Resources | None = None) -> None:
        """Make sure that a study exists, and that a worker which has so much may run trials of one stage at least.

        Raises:
            NotFoundError: there is no study of this name.
            HpoServiceError: its trials need more GPUs.
            UnfitWorkerError: the worker lacks what every stage asks for.
        """
        with self.db.transaction(read_only=True):
            row = self.studies.get(study)
        if has is None:
            return
        spec = row.specification()
        if has.gpus is not None and (needed := spec.execution.gpus_per_trial) > has.gpus:
            raise too_few_gpus(needed, has.gpus)
        missing = {rule.name: needs_of(spec, rule, row.facts).missing(has) for rule in stages_of(spec)}
        if all(missing.values()):
            said = "; ".join(f"{stage} needs {lack}" for stage, lack in missing.items())
            raise UnfitWorkerError(
                f"this worker can run no stage of study {study} ({said}): start one where that is, "
                "with --label or HPO_SERVICE_LABELS for labels of your own"
            )

    def trainer_processes(self, study: str | None, gpus: int | None = None) -> int | None:
        """How many processes a trial of the built-in trainer takes in this study; None where it needs no trainer.

        Without a name, the oldest active study that needs it and fits a worker with this many GPUs decides. One that
        another version made says nothing.
        """
        with self.db.transaction(read_only=True):
            rows = self.studies.list(StudyState.ACTIVE) if study is None else [self.studies.get(study)]
        for row in rows:
            with contextlib.suppress(UnreadableStudyError):
                spec = row.specification()
                needed = spec.execution.gpus_per_trial
                if spec.objective is None and (gpus is None or needed <= gpus):
                    return needed
        return None

    def require_success(self, study: str) -> None:
        """Make sure that a study did not fail; one that was deleted, or a database that is away, says nothing.

        Raises:
            ServedStudyFailedError: it failed.
        """
        with contextlib.suppress(DatabaseUnavailableError, NotFoundError), self.db.transaction(read_only=True):
            row = self.studies.get(study)
            if row.state is StudyState.FAILED:
                raise ServedStudyFailedError(
                    f"study {study} failed: {row.reason}; mend the cause, then `hpo-service study resume {study}`"
                )

    def finished(self, study: str | None) -> bool:
        """Whether this study (or, without a name, every study) has ended or is not to be worked on.

        A study that was deleted has ended.
        """
        with self.db.transaction(read_only=True):
            try:
                rows = self.studies.list() if study is None else [self.studies.get(study)]
            except NotFoundError:
                return True
            return all(row.state.final or row.state in HELD for row in rows)


def require_not_held(name: str, state: StudyState, reason: str | None) -> None:
    """Refuse a study that somebody paused, drained or cancelled.

    Raises:
        ConflictError: the study is in such a state.
    """
    if state in (*HELD, StudyState.CANCELLED):
        raise ConflictError(f"study {name} is {state} ({reason}): {_resume(name)}")


def require_workable(name: str, state: StudyState, reason: str | None) -> None:
    """Refuse a study that nobody is to work on.

    Raises:
        StudyFailedError: it failed before.
        ConflictError: somebody paused, drained or cancelled it.
    """
    if state is StudyState.FAILED:
        raise StudyFailedError(f"study {name} failed before: {reason}; mend the cause, {_resume(name)}")
    require_not_held(name, state, reason)


def _resume(name: str) -> str:
    return f"`hpo-service study resume {name}`, then run the same command again"


def too_few_gpus(needed: int, found: int) -> HpoServiceError:
    """The error of a machine, or a worker, that has fewer GPUs than one trial needs."""
    have = "1 GPU" if found == 1 else f"{found} GPUs"
    return HpoServiceError(
        f"execution.gpus_per_trial is {needed}, but only {have} can be used here: lower it, "
        "or start where CUDA_VISIBLE_DEVICES and nvidia-smi show as many"
    )
