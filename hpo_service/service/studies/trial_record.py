"""Everything that is kept of one trial, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import NotFoundError
from hpo_service.service.studies.snapshot import TrialView, trial_view
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trials import AttemptRow, TrialStore


@dataclass(frozen=True)
class TrialRecord:
    """One trial with its attempts; `origin` names the trial whose configuration it carries on, if any."""

    study: str
    spec: StudySpec
    stage: str
    trial: TrialView
    attempts: list[AttemptRow]
    origin: str

    @property
    def key(self) -> str:
        """Name of the trial in folders, e.g. `search-0007`."""
        return f"{self.stage}-{self.trial.number:04d}"


def read_record(
    db: Database, studies: StudyStore, trials: TrialStore, study: str, stage: str, number: int
) -> TrialRecord:
    """Read one trial.

    Raises:
        NotFoundError: there is no such study, stage or trial.
        UnreadableStudyError: another version made the study, in a way that this one does not understand.
    """
    with db.transaction():
        found = studies.get(study)
        place = next((row for row in studies.stages(found.id) if row.stage == stage), None)
        if place is None:
            raise NotFoundError(f"stage {study}/{stage} has not been opened: see `hpo-service study show {study}`")
        row = trials.by_number(place.id, number)
        return TrialRecord(
            study=study,
            spec=found.specification(),
            stage=stage,
            trial=trial_view(row, trials.reports(row.id)),
            attempts=trials.attempts(row.id),
            origin="" if row.origin_id is None else _origin(studies, trials, row.origin_id),
        )


def _origin(studies: StudyStore, trials: TrialStore, trial_id: int) -> str:
    row = trials.get(trial_id)
    return f"{studies.of_stage(row.stage_id)[1].stage} #{row.number}"
