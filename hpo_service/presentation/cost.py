"""What a study cost, and what stopping losers early saved."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.overview import OwnSeconds
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


def study_cost(snapshot: StudySnapshot, seconds: OwnSeconds | None = None) -> StudyCost:
    """Add up what was spent.

    What a pruned trial saved is estimated as the median of the stage's complete trials less what it took itself, both
    without what was prepared: the first trial of a process may have loaded a model, and says nothing of the others.

    Args:
        snapshot: the study.
        seconds: what complete and pruned trials took themselves; needed where the snapshot does not list them all.
    """
    return StudyCost([_stage_cost(view, (seconds or {}).get(view.stage) or _listed(view)) for view in snapshot.stages])


def _listed(view: StageView) -> dict[TrialState, list[float]]:
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return {state: view.own_seconds(state) for state in states}


def _stage_cost(view: StageView, seconds: dict[TrialState, list[float]]) -> StageCost:
    complete = [own for own in seconds[TrialState.COMPLETE] if own > 0]
    pruned = seconds[TrialState.PRUNED]
    whole = statistics.median(complete) if complete else 0.0
    own = sum(view.tally.own.values())
    return StageCost(
        stage=view.stage,
        trials=view.tally.total,
        pruned=len(pruned),
        own=own,
        preparing=view.tally.device_seconds - own,
        saved=sum(max(0.0, whole - spent) for spent in pruned),
    )
