"""What is read of studies: their list, one as it is now, one of its trials, and what was measured in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hpo_service.domain.trial.scores import Scores, Split
from hpo_service.service.studies.findings.evidence import Evidence, LoadScores, gather_evidence
from hpo_service.service.studies.snapshot import StudySnapshot, take_outline, take_snapshot
from hpo_service.service.studies.trial_record import TrialRecord, read_record
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trial.attempts import AttemptRow
from hpo_service.storage.trial.scores import ScoreStore
from hpo_service.storage.trial.trials import TrialStore


@dataclass(frozen=True)
class StudyReader:
    """Reads studies; changes nothing."""

    db: Database
    studies: StudyStore
    trials: TrialStore
    score_rows: ScoreStore

    def snapshot(self, study: str) -> StudySnapshot:
        """Read a study as it is now.

        Raises:
            NotFoundError: there is no study of this name.
            UnreadableStudyError: another version made it, in a way that this one does not understand.
        """
        with self.db.transaction(read_only=True):
            return take_snapshot(self.db.clock(), self.studies, self.trials, study)

    def outline(self, study: str, listed: int) -> StudySnapshot:
        """Read a study as it is now, with few of its trials listed and the others counted.

        Args:
            study: its name.
            listed: how many of the latest trials of a stage; open ones, the best and those carried on come besides.

        Raises:
            NotFoundError: there is no study of this name.
            UnreadableStudyError: another version made it, in a way that this one does not understand.
        """
        with self.db.transaction(read_only=True):
            return take_outline(self.db.clock(), self.studies, self.trials, study, listed)

    def record(self, study: str, stage: str, number: int) -> TrialRecord:
        """Read everything that is kept of one trial.

        Raises:
            NotFoundError: there is no such study, stage or trial.
            UnreadableStudyError: another version made the study, in a way that this one does not understand.
        """
        with self.db.transaction(read_only=True):
            return read_record(self.studies, self.trials, study, stage, number)

    def evidence(self, snapshot: StudySnapshot) -> Evidence:
        """Say what a study found: what its confirm stage measured, compared."""
        with self.db.transaction(read_only=True):
            return gather_evidence(snapshot, self.score_rows.load)

    def attempts(self, study: str) -> list[AttemptRow]:
        """Return the attempts of all trials of a study."""
        with self.db.transaction(read_only=True):
            return self.trials.attempts.in_study(self.studies.get(study).id)

    def scores(self, trial_id: int, split: Split) -> Scores | None:
        """Return the scores of each row of a split that a trial was scored on; None where it was not."""
        with self.db.transaction(read_only=True):
            return self.score_rows.load(trial_id, split)

    def measured(self, study: str) -> MeasuredStudy:
        """Take a study with all that was measured in it.

        Raises:
            NotFoundError: there is no study of this name.
            UnreadableStudyError: another version made it, in a way that this one does not understand.
        """
        return MeasuredStudy(self.snapshot(study), self)


@dataclass(frozen=True)
class MeasuredStudy:
    """A study at one moment; what was measured in it is read when it is asked for, so that no transaction is held."""

    snapshot: StudySnapshot
    reader: StudyReader

    @cached_property
    def evidence(self) -> Evidence:
        """What was found."""
        return self.reader.evidence(self.snapshot)

    @property
    def attempts(self) -> list[AttemptRow]:
        """Attempts of its trials, also of those that came later."""
        return self.reader.attempts(self.snapshot.name)

    @property
    def scores(self) -> LoadScores:
        """What loads the scores of one of its trials."""
        return self.reader.scores
