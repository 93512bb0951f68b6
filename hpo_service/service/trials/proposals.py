"""What a stage tries next: its beginning, its sampler's proposal, or nothing more because little is left to gain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpo_service.domain.decide.goals.foreseen import Barrier, foreseen
from hpo_service.domain.decide.start.beginning import beginnings
from hpo_service.domain.decide.start.kinship import differences
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.search.policy import SearchPolicy, Suggestion
from hpo_service.service.trials.taken import TakenKeys
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StageRow, StudyStore
from hpo_service.storage.trial.trials import TrialStore

if TYPE_CHECKING:
    from hpo_service.search.warm import Warmth

UNKNOWN: Mapping[str, ModelFacts] = {}


@dataclass(frozen=True)
class Proposals:
    """Asks the search's policy, outside of any transaction; a stage that gets no more of them is limited."""

    db: Database
    studies: StudyStore
    trials: TrialStore
    policy: SearchPolicy

    def next(
        self, spec: StudySpec, stage: StageRow, draw: int, facts: Mapping[str, ModelFacts] = UNKNOWN
    ) -> Suggestion | None:
        """Propose a configuration; None where the space is gone through, little is left to gain, or nothing may run.

        Args:
            spec: of the study.
            stage: for which trials are proposed.
            draw: the number of trials so far.
            facts: what is known of the study's models, by their names.
        """
        taken = TakenKeys(self.db, self.trials, stage.id)
        search = stage.rule.search(spec)
        enough = self.policy.enough(stage.optuna_name, search, stage.space, draw, stage.trials)
        if enough is not None:
            self._limit(stage, enough)
            return None
        # a stage that begins with planned trials has begun
        first = () if stage.rule.plan else beginnings(spec)
        barrier = Barrier(foreseen(spec, facts))
        suggestion = self.policy.suggest(
            stage.optuna_name, search, stage.space, taken.__contains__, draw, first, self._warmth(spec), barrier
        )
        if suggestion is None:
            left = "no configuration is left that may keep search.constraints" if barrier.passed_over else ""
            self._limit(stage, f"{left}: {barrier.remark}" if left else "")
            return None
        return replace(suggestion, remark=barrier.remark)

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
