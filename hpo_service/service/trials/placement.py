"""Who may have the trials of a stage: not a worker that lacks what they need, and a stage without any is told once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hpo_service.domain.decide.placement import Needs, Resources, needs_of
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StageRow, StudyRow, StudyStore
from hpo_service.storage.workers import WorkerStore

ASK_SECONDS = 60.0
"""Pause between two looks whether any worker can serve a stage that this one cannot."""

log = logging.getLogger(__name__)


@dataclass
class _Refused:
    """A stage that this worker cannot serve, and when it may ask again whether another can."""

    missing: str
    ask_at: float


@dataclass(frozen=True)
class Placement:
    """What one worker has, against what stages need; what it found out is remembered, so that a claim stays cheap."""

    db: Database
    studies: StudyStore
    workers: WorkerStore
    has: Resources
    clock: Callable[[], float] = time.monotonic
    _needs: dict[tuple[int, int], Needs] = field(default_factory=dict)
    _refused: dict[int, _Refused] = field(default_factory=dict)

    def serves(self, study: StudyRow, stage: StageRow) -> bool:
        """Whether this worker may have trials of the stage; where no worker may, that becomes known."""
        needs = self._needs_of(study, stage)
        missing = needs.missing(self.has)
        if not missing:
            self._refused.pop(stage.id, None)
            if stage.unserved:
                with self.db.transaction():
                    self.studies.mark_unserved(stage.id, "")
            return True
        before = self._refused.get(stage.id)
        if before is None or before.missing != missing:
            log.info("%s is left to other workers: this one lacks %s", stage.optuna_name, missing)
            before = self._refused[stage.id] = _Refused(missing, self.clock())
        if not stage.unserved and self.clock() >= before.ask_at:
            before.ask_at = self.clock() + ASK_SECONDS
            self._note_if_unserved(stage, needs)
        return False

    def _needs_of(self, study: StudyRow, stage: StageRow) -> Needs:
        """What a stage needs; worked out again only when more is known of the study's models."""
        case = (stage.id, sum(fact.shape is not None for fact in study.facts.values()))
        if case not in self._needs:
            self._needs[case] = needs_of(study.specification(), stage.rule, study.facts)
        return self._needs[case]

    def _note_if_unserved(self, stage: StageRow, needs: Needs) -> None:
        with self.db.transaction(read_only=True):
            there = self.workers.resources()
        nearest = needs.missing_everywhere(there)
        if not nearest:
            return
        count = "the only worker lacks" if len(there) == 1 else f"none of {len(there)} workers has all; one lacks only"
        reason = (
            f"nobody can run {stage.stage}: {count} {nearest}; start a worker that has it, "
            "or change execution.requires in a new study"
        )
        with self.db.transaction():
            news = self.studies.mark_unserved(stage.id, reason)
        if news:
            log.warning("%s: %s", stage.optuna_name, reason)
