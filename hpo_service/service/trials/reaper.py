"""The reaper: a small idempotent janitor that takes trials back from holders that fell silent, each one separately."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from hpo_service.domain.trial.states import TrialEvent, TrialState
from hpo_service.service.containment import Containment, Work
from hpo_service.service.trials.clock_watch import ClockWatch
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.service.trials.queue import asked_from_outside
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trial.trials import TOO_FAR, TrialRow, TrialStore
from hpo_service.storage.workers import WorkerStore

WORKER_SILENCE_SECONDS = 300.0
"""A worker unheard for this long is listed as lost; its trials were taken back when their leases ended."""


@dataclass(frozen=True)
class _Look:
    """What a look at the leases found.

    Attributes:
        now: the database's time, in seconds.
        longest: the longest lease that one who runs a trial now may have, in seconds.
        all_is_well: nothing is to be taken back, shortened or marked.
    """

    now: float
    longest: float
    all_is_well: bool


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
    containment: Containment = field(default_factory=Containment)
    clock: ClockWatch = field(default_factory=ClockWatch)

    def reap(self, held: Collection[int] = ()) -> list[TrialRow]:
        """Give every trial whose lease has ended back to the queue, or fail it where it was lost too often.

        After the database's clock jumped forward, or this machine slept, live workers are given time to renew first.

        Args:
            held: ids of trials that the caller holds itself: they are not lost, whatever the time.

        Returns:
            The trials that were taken back.
        """
        look = self._look()
        jumped = self.clock.has_jumped(look.now, look.longest)
        if look.all_is_well:
            return []
        self._mend_leases()
        if jumped:
            return []
        taken: list[TrialRow] = []
        with self.db.transaction():
            self.workers.mark_lost(WORKER_SILENCE_SECONDS)
            silent = self.studies.with_expired_leases()
        for study_id, name in silent:
            if self.containment.rests(Work.REAP, name):
                continue
            with self.containment.of(Work.REAP, name):
                while (trial := self._take_one(study_id, held)) is not None:
                    taken.append(trial)
        return taken

    def _take_one(self, study_id: int, held: Collection[int]) -> TrialRow | None:
        """Settle one silent trial of a study, or return None where it has none left that nobody else is settling."""
        with self.db.transaction():
            for trial in self.trials.expired(limit=1, study_id=study_id, held=held):
                self._take_back(trial)
                return trial
        return None

    def _look(self) -> _Look:
        """Look without the lock whether there is anything to do: idle workers ask often, and hold no writer up."""
        with self.db.transaction(read_only=True):
            leases = self.trials.tallies.leases()
            lengths = {stage: length for stage, length in self._lengths() if stage in leases} if leases else {}
            too_far = any(leases[stage].longest > TOO_FAR * length for stage, length in lengths.items())
            over = any(reach.shortest < 0 for reach in leases.values())
            silent = self.workers.any_silent(WORKER_SILENCE_SECONDS)
            return _Look(self.db.clock(), max(lengths.values(), default=0.0), not (too_far or over or silent))

    def _lengths(self) -> Iterator[tuple[int, float]]:
        """Yield the stages that are worked on, by id, with the seconds that a lease of each lasts."""
        for study, stage in self.studies.claimable():
            with self.containment.of(Work.READ, study.name):
                yield stage.id, study.specification().execution.lease_seconds

    def _mend_leases(self) -> None:
        """Shorten leases that end later than any renewal could have set: the database's clock was set back since."""
        with self.db.transaction():
            for stage_id, length in list(self._lengths()):
                self.trials.shorten_leases(stage_id, length)

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
