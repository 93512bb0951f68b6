"""What carrying a study's configurations over to its target showed, and what it spared."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from hpo_service.domain.decide.selection import Measured
from hpo_service.domain.decide.transfer.transferred import Transferred, transferred
from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView


@dataclass(frozen=True)
class Transfer:
    """A verify stage's findings.

    Attributes:
        found: which configuration the target likes best, and how far its learning rate moved.
        from_stage: the stage whose configurations were carried over.
        spent_seconds: device seconds of all stages up to this one.
        direct_seconds: what as many trials would have taken on the target, stopped as often as they were on the small
            model: an estimate from the median of complete trials of both; None while one has none.
    """

    found: Transferred
    from_stage: str
    spent_seconds: float
    direct_seconds: float | None


def transfer_of(snapshot: StudySnapshot) -> Transfer | None:
    """Return what the verify stage of a study found so far; None where it has none or has measured nothing."""
    place = next((i for i, view in enumerate(snapshot.stages) if i and view.rule.carries_over), None)
    if place is None:
        return None
    small, large = snapshot.stages[place - 1], snapshot.stages[place]
    found = transferred(snapshot.spec, _measured(small), _measured(large))
    if found is None:
        return None
    before = snapshot.stages[: place + 1]
    searched = sum(view.tally.device_seconds for view in before[:-1])
    medians = [_median_seconds(view) for view in (small, large)]
    direct = None if medians[0] is None or medians[1] is None else searched * medians[1] / medians[0]
    return Transfer(found, small.stage, sum(view.tally.device_seconds for view in before), direct)


def _measured(view: StageView) -> list[Measured]:
    return [_one(trial) for trial in view.trials]


def _one(trial: TrialView) -> Measured:
    return Measured(
        trial_id=trial.id,
        number=trial.number or 0,
        parameters=trial.parameters,
        value=math.nan if trial.value is None else trial.value,
        complete=trial.state is TrialState.COMPLETE,
        group=trial.label,
        role=trial.role,
        origin_id=trial.origin_id,
        share=trial.share,
        violated=trial.violated,
    )


def _median_seconds(view: StageView) -> float | None:
    """Median device seconds that a complete trial took itself; None without one."""
    took = [own for own in view.own_seconds(TrialState.COMPLETE) if own > 0]
    return statistics.median(took) if took else None
