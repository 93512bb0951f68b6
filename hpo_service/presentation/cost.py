"""What a study cost, and what stopping losers early saved."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.snapshot import StageView, StudySnapshot


@dataclass(frozen=True)
class StageCost:
    """Device seconds of one stage.

    Attributes:
        stage: its name.
        trials: how many it has.
        pruned: how many of them were stopped early.
        own: what trials took themselves.
        preparing: what went into processes, models and rows that trials share.
        saved: what pruning saved, an estimate.
    """

    stage: str
    trials: int
    pruned: int
    own: float
    preparing: float
    saved: float

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.own + self.preparing


@dataclass(frozen=True)
class StudyCost:
    """Device seconds of a study, stage by stage."""

    stages: list[StageCost]

    @property
    def seconds(self) -> float:
        """Device seconds spent by trials that have ended."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def preparing(self) -> float:
        """Those of them that went into what trials share."""
        return sum(stage.preparing for stage in self.stages)

    @property
    def saved(self) -> float:
        """Device seconds that pruning saved, estimated."""
        return sum(stage.saved for stage in self.stages)


def study_cost(snapshot: StudySnapshot) -> StudyCost:
    """Add up what was spent.

    What a pruned trial saved is estimated as the median of the stage's complete trials less what it took itself, both
    without what was prepared: the first trial of a process may have loaded a model, and says nothing of the others.
    """
    return StudyCost([_stage_cost(view) for view in snapshot.stages])


def _stage_cost(view: StageView) -> StageCost:
    complete = [seconds for seconds in view.own_seconds(TrialState.COMPLETE) if seconds > 0]
    pruned = view.own_seconds(TrialState.PRUNED)
    whole = statistics.median(complete) if complete else 0.0
    return StageCost(
        stage=view.stage,
        trials=view.tally.total,
        pruned=len(pruned),
        own=view.tally.own_seconds,
        preparing=view.tally.device_seconds - view.tally.own_seconds,
        saved=sum(max(0.0, whole - seconds) for seconds in pruned),
    )
