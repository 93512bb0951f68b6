"""Looking at a study again and again: what has ended is read once, then only counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.tally import Tally
from hpo_service.service.studies.snapshot import (
    Rest,
    StageView,
    StudySnapshot,
    TrialView,
    stage_view,
    study_view,
    tally_of,
    trial_view,
)
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StageRow, StudyStore
from hpo_service.storage.trial.tallies import REVIVABLE
from hpo_service.storage.trial.trials import TrialStore


@dataclass(frozen=True)
class _Seen:
    """A stage as it was at the last look: its row, how many trials it had, the open ones, and all that had ended."""

    row: StageRow
    total: int
    open: frozenset[int]
    ended: Rest


@dataclass(frozen=True)
class StudyWatch:
    """Reads studies as `StudyReader` does, for one who looks often; a look costs no more the more trials have ended.

    Its snapshots list the trials that have not ended and those that have ended since the last look, each with its
    latest report alone.
    """

    db: Database
    studies: StudyStore
    trials: TrialStore
    _seen: dict[int, _Seen] = field(default_factory=dict)

    def snapshot(self, study: str) -> StudySnapshot:
        """Read a study as it is now.

        Raises:
            NotFoundError: there is no study of this name.
            UnreadableStudyError: another version made it, in a way that this one does not understand.
        """
        seen: dict[int, _Seen] = {}
        with self.db.transaction(read_only=True):
            row = self.studies.get(study)
            direction = row.specification().search.direction
            views = [self._look(stage, direction, seen) for stage in self.studies.stages(row.id)]
            snapshot = study_view(self.db.clock(), row, views)
        # only now: what a look that broke off has seen was not told
        self._seen.update(seen)
        return snapshot

    def _look(self, stage: StageRow, direction: Direction, seen: dict[int, _Seen]) -> StageView:
        before = self._seen.get(stage.id)
        if before is not None and before.row == stage and not stage.open and not before.open:
            return stage_view(stage, [], before.ended)
        known = before or _Seen(stage, self.trials.tallies.total(stage.id), frozenset(), Rest())
        rows = self.trials.tallies.open_or_new(stage.id, known.open, known.total)
        reports = self.trials.reports.latest([row.id for row in rows])
        listed = [trial_view(row, [reports[row.id]] if row.id in reports else []) for row in rows]
        if before is None or not self._adds_up(stage, before, listed):
            view = stage_view(stage, listed, self._counted_anew(stage, direction, listed))
        else:
            view = stage_view(stage, listed, before.ended)
        ended = Rest(view.rest.tally + _ended(listed), view.best(direction))
        still = frozenset(trial.id for trial in listed if not trial.state.final)
        seen[stage.id] = _Seen(stage, view.tally.total, still, ended)
        return view

    def _adds_up(self, stage: StageRow, before: _Seen, listed: Iterable[TrialView]) -> bool:
        """Whether nothing happened but that open trials ended and new ones came: a person may revive ended ones."""
        counted = before.ended.tally + tally_of(listed)
        tallies = self.trials.tallies
        return counted.total == tallies.total(stage.id) and counted.count(*REVIVABLE) == tallies.revivable(stage.id)

    def _counted_anew(self, stage: StageRow, direction: Direction, listed: Iterable[TrialView]) -> Rest:
        tally = self.trials.tallies.of_ended(stage.id, but_not=[trial.id for trial in listed])
        best = self.trials.tallies.best(stage.id, direction)
        return Rest(tally, None if best is None else trial_view(best, []))


def _ended(trials: Iterable[TrialView]) -> Tally:
    return tally_of(trial for trial in trials if trial.state.final)
