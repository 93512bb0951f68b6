"""How many workers a study can use at present, and what it has cost: what decides how many are to be there."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.study.protocol import current_of
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.trials.budget import DeviceHours, Limits, admission, device_hours, withheld
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StageRow, StudyStore
from hpo_service.storage.trial.trials import TrialStore


@dataclass(frozen=True)
class Demand:
    """What of a study is left to do.

    Attributes:
        state: of the study.
        stage: the stage that is open, or was last.
        workers: that hold trials there, and one for each trial that waits or may still be admitted: more are of no use.
        ended: trials that have ended there.
        hours: what the study has taken so far.
        forbidden: why no further trial may be started, by the cap that was named; empty where one may.
    """

    state: StudyState
    stage: str
    workers: int
    ended: int
    hours: DeviceHours
    forbidden: str = ""


@dataclass(frozen=True)
class Demands:
    """Reads what of studies is left to do."""

    db: Database
    studies: StudyStore
    trials: TrialStore

    def of(self, study: str, max_device_hours: float | None = None) -> Demand:
        """Count what is left of a study, under a cap on its device hours.

        Raises:
            NotFoundError: there is no such study.
        """
        with self.db.transaction(read_only=True):
            row = self.studies.get(study)
            stages = self.studies.stages(row.id)
            stage = current_of(stages)
            total = self.trials.tallies.total(stage.id)
            held = self.trials.tallies.open_or_new(stage.id, [], total)
            hours = device_hours(stages, self.trials)
            forbidden = withheld(Limits(max_device_hours), stages, self.trials)
            holders = len({trial.worker_id for trial in held if trial.state is TrialState.RUNNING})
            waiting = sum(trial.state is TrialState.WAITING for trial in held)
            to_come = waiting + self._admissible(stage, total)
        works = row.state is StudyState.ACTIVE and stage.open
        return Demand(
            state=row.state,
            stage=stage.stage,
            workers=(holders + (0 if forbidden else to_come)) if works else 0,
            ended=total - len(held),
            hours=hours,
            forbidden=forbidden.reason if forbidden and works else "",
        )

    def _admissible(self, stage: StageRow, total: int) -> int:
        if not stage.rule.proposes or not admission(stage, total, self.trials).open:
            return 0
        return max(0, stage.trials - total)
