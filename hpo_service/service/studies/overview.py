"""Studies as pages show them: counted by the database, with only those trials listed that are looked at one by one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from hpo_service.domain.trial.states import TrialState
from hpo_service.domain.trial.tally import Tally
from hpo_service.errors import UnreadableStudyError
from hpo_service.service.studies.snapshot import (
    Rest,
    StageView,
    StudySnapshot,
    TrialView,
    stage_view,
    study_view,
    trial_view,
)
from hpo_service.storage.database import Database
from hpo_service.storage.overview.stage_counts import StageCounts
from hpo_service.storage.studies import StageRow, StudyRow, StudyStore
from hpo_service.storage.trial.reports import ReportRow
from hpo_service.storage.trial.trial_rows import TrialRow
from hpo_service.storage.trial.trials import TrialStore

OwnSeconds: TypeAlias = dict[str, dict[TrialState, list[float]]]
"""By stage and state, the device seconds that trials took themselves."""


@dataclass(frozen=True)
class StudyLine:
    """A study in the list: its running trials are listed, the others counted; and the best value of its last stage."""

    snapshot: StudySnapshot
    best: float | None


@dataclass(frozen=True)
class StudyLines:
    """All studies, in the order they were created; `unreadable` says by name why others cannot be read."""

    lines: list[StudyLine]
    unreadable: dict[str, str]


@dataclass(frozen=True)
class HeldTrial:
    """A running trial with its study, its stage and its latest report."""

    study: str
    stage: str
    trial: TrialView


@dataclass(frozen=True)
class Overview:
    """Reads across studies; changes nothing."""

    db: Database
    studies: StudyStore
    trials: TrialStore
    counts: StageCounts

    def lines(self) -> StudyLines:
        """Look at every study, in as many statements for a thousand studies as for one."""
        with self.db.transaction(read_only=True):
            now, rows, stages = self.db.clock(), self.studies.list(), self.counts.stages()
            tallies, extremes = self.counts.tallies(), self.counts.extremes()
            running: dict[int, list[TrialRow]] = {}
            for trial in self.counts.running():
                running.setdefault(trial.stage_id, []).append(trial)
        found = StudyLines([], {})
        for row in rows:
            try:
                views = [
                    _counted(stage, running.get(stage.id, []), tallies.get(stage.id, Tally()))
                    for stage in stages.get(row.id, [])
                ]
                found.lines.append(StudyLine(study_view(now, row, views), _best(row, stages[row.id], extremes)))
            except UnreadableStudyError as error:
                found.unreadable[row.name] = str(error)
        return found

    def names(self) -> list[str]:
        """Return the names of all studies, oldest first."""
        with self.db.transaction(read_only=True):
            return list(self.studies.names())

    def partial(self, study: str, most: int) -> StudySnapshot:
        """Read a study, of a stage that proposes at most the latest `most` trials; the others are counted.

        What compares and carries over is read whole: those stages are small.

        Raises:
            NotFoundError: there is no study of this name.
            UnreadableStudyError: another version made it, in a way that this one does not understand.
        """
        with self.db.transaction(read_only=True):
            row = self.studies.get(study)
            views = [self._part(row, stage, most) for stage in self.studies.stages(row.id)]
            return study_view(self.db.clock(), row, views)

    def curves(self, trial_ids: Collection[int]) -> dict[int, list[ReportRow]]:
        """Return everything that these trials have reported."""
        with self.db.transaction(read_only=True):
            return self.trials.reports.of_many(trial_ids)

    def own_seconds(self, study: str) -> OwnSeconds:
        """Return what complete and pruned trials of each stage took themselves.

        Raises:
            NotFoundError: there is no study of this name.
        """
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        with self.db.transaction(read_only=True):
            stages = self.studies.stages(self.studies.get(study).id)
            return {stage.stage: self.counts.own_seconds(stage.id, *states) for stage in stages}

    def held(self) -> dict[str, list[HeldTrial]]:
        """Return the running trials of every worker that has any, by its id."""
        with self.db.transaction(read_only=True):
            rows = self.counts.running()
            reports = self.trials.reports.latest([row.id for row in rows])
            names = {row.id: row.name for row in self.studies.list()}
            stages = {stage.id: stage for several in self.counts.stages().values() for stage in several}
        found: dict[str, list[HeldTrial]] = {}
        for row in rows:
            view = trial_view(row, [reports[row.id]] if row.id in reports else [])
            held = HeldTrial(names[row.study_id], stages[row.stage_id].stage, view)
            found.setdefault(row.worker_id or "", []).append(held)
        return found

    def _part(self, study: StudyRow, stage: StageRow, most: int) -> StageView:
        tallies = self.trials.tallies
        total = tallies.total(stage.id)
        if not stage.rule.proposes or total <= most:
            return stage_view(stage, self._listed(self.trials.list(study.id, stage.id)))
        rows = tallies.open_or_new(stage.id, (), total - most)
        best = tallies.best(stage.id, study.specification().search.direction)
        if best is not None and all(row.id != best.id for row in rows):
            rows = [best, *rows]
        tally = tallies.of_ended(stage.id, but_not=[row.id for row in rows])
        return stage_view(stage, self._listed(rows), Rest(tally))

    def _listed(self, rows: Collection[TrialRow]) -> list[TrialView]:
        reports = self.trials.reports.of_many([row.id for row in rows])
        return [trial_view(row, reports.get(row.id, [])) for row in rows]


def _counted(stage: StageRow, running: list[TrialRow], others: Tally) -> StageView:
    return stage_view(stage, [trial_view(row, []) for row in running], Rest(others))


def _best(study: StudyRow, stages: list[StageRow], extremes: dict[int, tuple[float, float]]) -> float | None:
    """The best value of the last stage that has one."""
    found = next((extremes[stage.id] for stage in reversed(stages) if stage.id in extremes), None)
    return None if found is None else found[study.specification().search.direction.maximize]
