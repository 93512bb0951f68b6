"""A study that failed before it measured anything gives way to the corrected file of the same name."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.events import EventKind
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import ConflictError
from hpo_service.service.studies.lifecycle import Studies
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyRow, StudyStore
from hpo_service.storage.trial.trials import TrialStore

REPLACEABLE = (StudyState.FAILED, StudyState.CANCELLED)
MEASURED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Replacements:
    """Replaces studies, each in one transaction."""

    db: Database
    rows: StudyStore
    trials: TrialStore
    studies: Studies

    def replace(self, spec: StudySpec, by: str = "") -> StudyRow:
        """Create a study in place of one of its name that failed or was cancelled without a result.

        Where there is none, or the very same one, it is as `Studies.create`.

        Raises:
            ConflictError: the study of this name has not ended so, or has measured something.
        """
        with self.db.transaction():
            old = self.rows.find(spec.name)
            if old is None:
                return self.studies.create(spec, by)
            old = self.rows.lock(old.id)
            if old.specification() == spec:
                return old
            self._check(old)
            self.studies.delete(spec.name, by)
            study = self.studies.create(spec, by)
            reason = f"in place of one that was {old.state} and had measured nothing: {old.reason}"
            self.rows.events.of_study(EventKind.STUDY_REPLACED, study.id, reason, by=by)
            return study

    def _check(self, old: StudyRow) -> None:
        """Refuse to throw away what was measured, or a study that is at work."""
        remedy = f"give the file another name, or `hpo-service study delete {old.name}`"
        if old.state not in REPLACEABLE:
            raise ConflictError(f"study {old.name} is {old.state}, and only one that failed can be replaced: {remedy}")
        measured = sum(trial.state in MEASURED for trial in self.trials.list(old.id))
        reports = len({report.trial_id for report in self.trials.reports.in_study(old.id)})
        if measured or reports:
            what = f"{measured} trials have ended with a value, {reports} have reported one"
            raise ConflictError(f"study {old.name} has measured something ({what}) and is not replaced: {remedy}")
