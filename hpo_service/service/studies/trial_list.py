"""The trials of a study, a page at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.snapshot import TrialView, trial_view
from hpo_service.storage.database import Database
from hpo_service.storage.overview.trial_pages import TrialFilter, TrialPages
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trial.reports import ReportStore


@dataclass(frozen=True)
class TrialPage:
    """Trials with the names of their stages; `next` is where the next page starts, None after the last."""

    study: str
    trials: list[tuple[str, TrialView]]
    next: int | None


@dataclass(frozen=True)
class TrialList:
    """Lists trials; changes nothing."""

    db: Database
    studies: StudyStore
    pages: TrialPages
    reports: ReportStore

    def page(
        self,
        study: str,
        *,
        stage: str | None = None,
        states: Collection[TrialState] = (),
        worker: str | None = None,
        after: int = 0,
        limit: int = 100,
        curves: bool = False,
    ) -> TrialPage:
        """Return the trials of a study that fit, in the order they came to be.

        Args:
            study: its name.
            stage: of this stage alone.
            states: in one of these states alone.
            worker: held by this worker alone.
            after: where the page starts: the `next` of the page before.
            limit: how many at most.
            curves: whether their reports are read too.

        Raises:
            NotFoundError: there is no such study, or the stage has not been opened.
        """
        with self.db.transaction(read_only=True):
            found = self.studies.get(study)
            stages = self.studies.stages(found.id)
            wanted = TrialFilter(None if stage is None else self.studies.stage(study, stage).id, states, worker)
            rows = self.pages.page(found.id, wanted, after=after, limit=limit + 1)
            reports = self.reports.of_many([row.id for row in rows[:limit]]) if curves else {}
        names = {row.id: row.stage for row in stages}
        shown = [
            (names[row.stage_id], trial_view(row, reports.get(row.id, [])))
            for row in rows[:limit]
            if row.stage_id in names
        ]
        return TrialPage(study, shown, rows[limit - 1].id if len(rows) > limit else None)
