"""What optuna-dashboard shows of ours: notes, written again when something has ended since."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field

from hpo_service.bootstrap import Service
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import NotFoundError, UnreadableStudyError
from hpo_service.presentation.notes import SIGNED, study_note, trial_note
from hpo_service.service.studies.snapshot import StudySnapshot
from hpo_service.web.pages.findings import Findings, standing

MOST_TRIALS = 100
"""Of the latest so many trials of the search, and of all others, those that did not run to the end get a note."""


@dataclass
class DashboardNotes:
    """Writes the notes of all studies in the server's own rounds."""

    service: Service
    findings: Findings
    base: str = ""
    _written: dict[str, Hashable] = field(default_factory=dict)

    def round(self) -> None:
        """Write what is new; and have the verdicts at hand that the overview shows."""
        lines = self.service.overview.lines().lines
        self._written = {line.snapshot.name: self._write(line.snapshot) for line in lines}

    def _write(self, snapshot: StudySnapshot) -> Hashable:
        now = standing(snapshot)
        if self._written.get(snapshot.name) == now:
            return now
        with suppress(NotFoundError, UnreadableStudyError):  # deleted meanwhile
            note = study_note(snapshot, self.findings.evidence(snapshot), self.base)
            self.service.notes.write(snapshot.name, note, SIGNED, self._of_trials(snapshot.name))
        return now

    def _of_trials(self, study: str) -> dict[str, dict[int, str]]:
        part = self.service.overview.partial(study, MOST_TRIALS)
        return {
            view.stage: {
                trial.number: trial_note(study, view.stage, trial, self.base)
                for trial in view.trials
                if trial.number is not None and trial.state.final and trial.state is not TrialState.COMPLETE
            }
            for view in part.stages
        }
