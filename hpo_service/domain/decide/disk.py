"""How much disk a study will take: checkpoints of the trials that run at a time, and the adapters that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import GB, OPTIMIZER_BYTES, TRAINED_BYTES, trained_weights
from hpo_service.domain.study.protocol import stages_of
from hpo_service.domain.study.spec import StudySpec

AT_A_TIME = 3
"""Checkpoints of a running trial: the one that it began from, its newest, and the one that is being written."""


@dataclass(frozen=True)
class DiskUse:
    """Disk that a study takes in GB of 1e9 bytes, at most.

    Attributes:
        running_gb: of each trial that runs at a time, in the stage that needs most.
        kept_gb: of all adapters that are kept in the end.
        adapters: how many those are.
    """

    running_gb: float
    kept_gb: float
    adapters: int

    def total_gb(self, at_a_time: int) -> float:
        """What a disk must have for so many trials at a time."""
        return at_a_time * self.running_gb + self.kept_gb


def checkpoint_gb(demand: Demand) -> float:
    """Size of a checkpoint: trained weights with the optimizer's state of each."""
    return trained_weights(demand) * (TRAINED_BYTES + OPTIMIZER_BYTES[demand.optimizer]) / GB


def adapter_gb(demand: Demand) -> float:
    """Size of what is kept: the trained weights."""
    return trained_weights(demand) * TRAINED_BYTES / GB


def disk_of(spec: StudySpec, largest: Mapping[str, Demand]) -> DiskUse:
    """Tell what a study takes.

    Args:
        spec: the study.
        largest: the largest configuration of each of its models, by name; those that are missing count as nothing.
    """
    running, kept, adapters = 0.0, 0.0, 0
    for stage in stages_of(spec):
        demand = largest.get(stage.model_of(spec) or "")
        if demand is None:
            continue
        running = max(running, AT_A_TIME * checkpoint_gb(demand))
        count = stage.trials(spec) if stage.keeps_adapter else min(stage.trials(spec), spec.execution.keep_adapters)
        adapters += count
        kept += count * adapter_gb(demand)
    return DiskUse(running, kept, adapters)
