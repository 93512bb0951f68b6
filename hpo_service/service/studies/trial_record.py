"""Everything that is kept of one trial, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpo_service.domain.study.spec import StudySpec
from hpo_service.service.studies.snapshot import TrialView, trial_view
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trial.attempts import AttemptRow
from hpo_service.storage.trial.trials import TrialStore
from hpo_service.wire.attempt_folder import AttemptFolder, trial_folder


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

    def folders(self, output: Path) -> list[Path]:
        """Return the folders of the trial's attempts that lie on this machine, first to last.

        Args:
            output: folder of studies' results.
        """
        attempts = AttemptFolder.first(trial_folder(output, self.study, self.key), self.trial.attempt)
        return [folder.path for folder in attempts if folder.path.is_dir()]


def read_record(studies: StudyStore, trials: TrialStore, study: str, stage: str, number: int) -> TrialRecord:
    """Read one trial; belongs inside a transaction.

    Raises:
        NotFoundError: there is no such study, stage or trial.
        UnreadableStudyError: another version made the study, in a way that this one does not understand.
    """
    found = studies.get(study)
    row = trials.numbered(studies.stage(study, stage), number)
    return TrialRecord(
        study=study,
        spec=found.specification(),
        stage=stage,
        trial=trial_view(row, trials.reports.of(row.id)),
        attempts=trials.attempts.of(row.id),
        origin="" if row.origin_id is None else _origin(studies, trials, row.origin_id),
    )


def _origin(studies: StudyStore, trials: TrialStore, trial_id: int) -> str:
    row = trials.get(trial_id)
    return f"{studies.of_stage(row.stage_id)[1].stage} #{row.number}"
