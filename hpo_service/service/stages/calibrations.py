"""What the verify stages of earlier studies tell about learning rates from one width to another."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo_service.domain.decide.selection import Measured
from hpo_service.domain.decide.transfer.calibration import Calibration
from hpo_service.domain.decide.transfer.transferred import calibration, transferred
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import UnreadableStudyError
from hpo_service.storage.studies import StudyRow, StudyStore
from hpo_service.storage.trial.trials import TrialRow, TrialStore

CALIBRATED = "calibrated"
"""The scaling rule that asks."""


@dataclass(frozen=True)
class Calibrations:
    """Reads finished verify stages; call it inside a transaction."""

    studies: StudyStore
    trials: TrialStore

    def of(self, spec: StudySpec) -> list[Calibration]:
        """Return what every other study of this database found, where this one's rule wants to know."""
        if spec.transfer.rule != CALIBRATED:
            return []
        found = (self._found(row) for row in self.studies.list() if row.name != spec.name)
        return [each for each in found if each is not None]

    def _found(self, row: StudyRow) -> Calibration | None:
        try:
            spec = row.specification()
            stages = self.studies.stages(row.id)
            place = next((i for i, s in enumerate(stages) if i and s.closed and s.rule.carries_over), None)
        except UnreadableStudyError:
            return None
        if place is None:
            return None
        small, large = ([measured(t) for t in self.trials.list(row.id, stages[i].id)] for i in (place - 1, place))
        told = transferred(spec, small, large)
        return None if told is None else calibration(spec, row.facts, told)


def measured(row: TrialRow) -> Measured:
    """What a trial measured, for those who choose between trials; NaN where it has no value."""
    value = math.nan if row.value is None else row.value
    number = row.ordinal if row.number is None else row.number  # one that was cancelled before anybody took it
    complete = row.state is TrialState.COMPLETE
    label = row.label or ""
    violated = row.facts.constraints.violated or ""
    return Measured(
        row.id, number, row.parameters, value, complete, label, row.role, row.origin_id, row.share, violated
    )
