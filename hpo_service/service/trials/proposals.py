"""What a stage tries next: its beginning, its sampler's proposal, or nothing more because little is left to gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo_service.domain.decide.start.beginning import beginnings
from hpo_service.domain.decide.start.kinship import differences
from hpo_service.domain.study.spec import StudySpec
from hpo_service.search.policy import SearchPolicy, Suggestion
from hpo_service.service.trials.taken import TakenKeys
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StageRow, StudyStore
from hpo_service.storage.trial.trials import TrialStore

if TYPE_CHECKING:
    from hpo_service.search.warm import Warmth


@dataclass(frozen=True)
class Proposals:
    """Asks the search's policy, outside of any transaction; a stage that gets no more of them is limited."""

    db: Database
    studies: StudyStore
    trials: TrialStore
    policy: SearchPolicy

    def next(self, spec: StudySpec, stage: StageRow, draw: int) -> Suggestion | None:
        """Propose a configuration; None where the space is gone through, or little is left to gain.

        Args:
            spec: of the study.
            stage: for which trials are proposed.
            draw: the number of trials so far.
        """
        taken = TakenKeys(self.db, self.trials, stage.id)
        search = stage.rule.search(spec)
        enough = self.policy.enough(stage.optuna_name, search, stage.space, draw)
        if enough is not None:
            self._limit(stage, enough)
            return None
        # a stage that begins with planned trials has begun
        first = () if stage.rule.plan else beginnings(spec)
        suggestion = self.policy.suggest(
            stage.optuna_name, search, stage.space, taken.__contains__, draw, first, self._warmth(spec)
        )
        if suggestion is None:
            self._limit(stage)
        return suggestion

    def _limit(self, stage: StageRow, why: str = "") -> None:
        with self.db.transaction():
            self.studies.limit_stage(stage.id, self.trials.tallies.total(stage.id), why)

    def _warmth(self, spec: StudySpec) -> Warmth | None:
        """Where the study's search learns from besides; None where it does not, or that study was deleted."""
        if spec.search.warm_start is None:
            return None
        with self.db.transaction(read_only=True):
            other = self.studies.find(spec.search.warm_start)
            if other is None:
                return None
            from hpo_service.search.warm import Warmth

            alike = not differences(spec, other.specification())
            return Warmth(self.studies.stages(other.id)[0].optuna_name, alike)
