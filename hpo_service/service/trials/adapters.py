"""Adapters that are kept: of the trials that were planned for it, and of the best of each stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trial.adapters import AdapterStore
from hpo_service.storage.trial.trials import TrialStore


@dataclass(frozen=True)
class KeptAdapters:
    """Tells which adapters are kept no longer."""

    db: Database
    studies: StudyStore
    trials: TrialStore
    rows: AdapterStore

    def give_up(self, trial_id: int, reaches: Callable[[str], bool]) -> list[str]:
        """Give up those adapters of a trial's stage that are not among the best any more.

        Args:
            trial_id: of a trial that has just ended.
            reaches: whether the caller can remove what lies at such a place; what it cannot another worker will.

        Returns:
            Where those lie that the caller is to remove; they are kept no longer.
        """
        with self.db.transaction():
            study, stage = self.studies.of_stage(self.trials.get(trial_id).stage_id)
            spec = study.specification()
            surplus = self.rows.surplus(stage.id, spec.search.direction, spec.execution.keep_adapters)
            given_up = [kept for kept in surplus if reaches(kept.adapter)]
            for kept in given_up:
                self.rows.forget(kept)
        return [kept.adapter for kept in given_up]
