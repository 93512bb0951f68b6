"""How many trials may share a device."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.spec import StudySpec

MOST = 8
"""Trials that `auto` puts side by side at most: beyond that little is gained where it was measured."""
LEARNING_SHARE = 4
"""In search no more than one in so many trials of the budget run side by side: the sampler learns from those that have
ended, and the pruner compares with them."""
SHARED = frozenset({"seconds", "memory_gb"})
"""Costs that cannot be told of a trial which shares its device with others; limits and goals among them forbid that."""


@dataclass(frozen=True)
class Parallel:
    """Trials that one child may serve at once; with `measured` it finds out how many of them are worth it."""

    slots: int
    measured: bool


def parallel(spec: StudySpec, stage: StageRule, trials: int, workers: int = 1) -> Parallel:
    """Decide for a stage of so many trials and so many workers: no device packs what another could take idle."""
    if spec.objective is not None or spec.execution.gpus_per_trial > 1 or spec.search.weighed & SHARED:
        return Parallel(1, measured=False)
    wanted = spec.search.parallel_per_gpu
    if wanted != "auto":
        return Parallel(wanted, measured=False)
    workers = max(1, workers)
    room = trials // LEARNING_SHARE // workers if stage.proposes else -(-trials // workers)
    slots = max(1, min(MOST, room))
    return Parallel(slots, measured=slots > 1)
