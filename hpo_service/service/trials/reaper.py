"""The reaper: a small idempotent janitor that takes trials back from holders that fell silent, each one separately."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpo_service.domain.trial.states import TrialEvent, TrialState
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.service.trials.queue import asked_from_outside
from hpo_service.service.unreadable import Unreadable
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trials import TOO_FAR, TrialRow, TrialStore
from hpo_service.storage.workers import WorkerStore

WORKER_SILENCE_SECONDS = 300.0
"""A worker unheard for this long is listed as lost; its trials were taken back when their leases ended."""


@dataclass(frozen=True)
class Reaper:
    """Runs in every worker; any number may run at once.

    Because claim, report and finish each commit whole or not at all, an expired lease is the only thing a crash can
    leave behind.
    """

    db: Database
    studies: StudyStore
    trials: TrialStore
    workers: WorkerStore
    ledger: TrialLedger
    unreadable: Unreadable = field(default_factory=Unreadable)

    def reap(self) -> list[TrialRow]:
        """Give every trial whose lease has ended back to the queue, or fail it where it was lost too often.

        Returns:
            The trials that were taken back.
        """
        if self._all_is_well():
            return []
        self._mend_leases()
        taken: list[TrialRow] = []
        # Trials of studies that this version cannot read are left to workers of the version that can.
        left: set[int] = set()
        while True:
            with self.unreadable.passed_over(), self.db.transaction():
                expired = self.trials.expired(limit=1, but_not=left)
                if not expired:
                    self.workers.mark_lost(WORKER_SILENCE_SECONDS)
                    return taken
                left.add(expired[0].study_id)
                self._take_back(expired[0])
                left.remove(expired[0].study_id)
                taken.append(expired[0])

    def _all_is_well(self) -> bool:
        """Look without the lock whether there is anything to do: idle workers ask often, and hold no writer up."""
        with self.db.transaction(read_only=True):
            if self.workers.any_silent(WORKER_SILENCE_SECONDS):
                return False
            leases = self.trials.tallies.leases()
            if any(reach.shortest < 0 for reach in leases.values()):
                return False
            for study, stage in self.studies.claimable() if leases else []:
                with self.unreadable.passed_over():
                    length = study.specification().execution.lease_seconds
                    if stage.id in leases and leases[stage.id].longest > TOO_FAR * length:
                        return False
        return True

    def _mend_leases(self) -> None:
        """Shorten leases that end later than any renewal could have set: the database's clock was set back since."""
        with self.db.transaction():
            for study, stage in self.studies.claimable():
                with self.unreadable.passed_over():
                    length = study.specification().execution.lease_seconds
                    self.trials.shorten_leases(stage.id, length)

    def _take_back(self, trial: TrialRow) -> None:
        study, _ = self.studies.of_stage(trial.stage_id)
        asked = asked_from_outside(study, trial)
        if asked is not None and asked.action == "cancel":
            self.ledger.end(trial, TrialState.CANCELLED, asked.reason)
            return
        limit = study.specification().execution.max_losses
        losses = trial.losses + 1
        reason = f"worker {trial.worker_id} fell silent in attempt {trial.attempt} (loss {losses} of at most {limit})"
        if losses < limit:
            self.ledger.give_back(trial, TrialEvent.EXPIRE, reason)
        else:
            self.ledger.end(trial, TrialState.FAILED, f"{reason}: given up")
