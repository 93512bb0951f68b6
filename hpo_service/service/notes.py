"""Notes and artifacts in optuna-dashboard: written by whoever has the time, never on the way of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpo_service.service.artifacts import Artifacts
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyStore


@dataclass(frozen=True)
class Notes:
    """Writes notes of studies and trials, and lists their artifacts."""

    db: Database
    studies: StudyStore
    ledger: TrialLedger
    artifacts: Artifacts

    def write(self, study: str, note: str, signed: str, trials: Mapping[str, Mapping[int, str]]) -> None:
        """Write the note of every stage of a study, and of some of its trials, where they say something new.

        The study's report and the adapters that lie on this machine become artifacts.

        Args:
            study: its name.
            note: what each of its stages gets.
            signed: what is in every note of ours; one without it is somebody's own and stays.
            trials: notes by stage and the trial's number.

        Raises:
            NotFoundError: there is no study of this name.
        """
        with self.db.transaction(read_only=True):
            stages = self.studies.stages(self.studies.get(study).id)
            artifacts = [self.artifacts.of_stage(stage) for stage in stages]
            changed = [
                (stage, self.ledger.changed_attributes(stage, signed, note, trials.get(stage.stage, {}), listed))
                for stage, listed in zip(stages, artifacts, strict=True)
            ]
        if any(attributes for _, attributes in changed):
            with self.db.transaction():
                for stage, attributes in changed:
                    self.ledger.set_attributes(stage, attributes)
