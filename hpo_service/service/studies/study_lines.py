"""All studies, a line each: what a list shows, read without their trials."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import UnreadableStudyError
from hpo_service.storage.database import Database
from hpo_service.storage.overview.stage_counts import StageCounts
from hpo_service.storage.studies import StudyRow, StudyStore


@dataclass(frozen=True)
class StudyLine:
    """One study: its current stage, and how many of that stage's trials have ended, of how many."""

    name: str
    state: StudyState
    reason: str
    spec: StudySpec
    stage: str
    ended: int
    budget: int
    created_at: float


@dataclass(frozen=True)
class LinesOfStudies:
    """All studies, in the order they were created; `unreadable` says by name why others cannot be read."""

    lines: list[StudyLine]
    unreadable: dict[str, str]


@dataclass(frozen=True)
class StudyLines:
    """Lists studies; changes nothing."""

    db: Database
    studies: StudyStore
    counts: StageCounts

    def all(self) -> LinesOfStudies:
        """Read a line of every study; those that another version made are told of and left out."""
        found = LinesOfStudies([], {})
        with self.db.transaction(read_only=True):
            ended = self.counts.ended()
            for row in self.studies.list():
                try:
                    found.lines.append(self._line(row, ended))
                except UnreadableStudyError as error:
                    found.unreadable[row.name] = str(error)
        return found

    def _line(self, row: StudyRow, ended: dict[int, int]) -> StudyLine:
        stage = self.studies.stages(row.id)[-1]
        return StudyLine(
            name=row.name,
            state=row.state,
            reason=row.reason,
            spec=row.specification(),
            stage=stage.rule.name,
            ended=ended.get(stage.id, 0),
            budget=stage.trials,
            created_at=row.created_at,
        )
