"""How an effective batch is cut for a GPU, and which learning rate another batch wants."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.fit import largest_fit
from hpo_service.domain.memory.micro_batches import micro_batch
from hpo_service.errors import UsageError

SQUARE_ROOT = "square-root rule: with Adam the rate goes as the root of the batch (Malladi et al., arXiv 2205.10287)"
MUCH_ACCUMULATION = 16
"""Micro-batches a step from which sums in half precision want care."""


@dataclass(frozen=True)
class BatchPlan:
    """An effective batch as micro-batches.

    Attributes:
        micro_batch: rows of a forward pass on one GPU.
        accumulation: forward passes of an optimizer step.
        gpus: that share it.
        needed_gb: what one of them needs, in GB of 1e9 bytes.
        reasons: why so, and what to mind.
    """

    micro_batch: int
    accumulation: int
    gpus: int
    needed_gb: float
    reasons: list[str]


def plan_batch(demand: Demand, effective_batch: int, gpus: int, capacity_gb: float | None) -> BatchPlan:
    """Choose the largest micro-batch that fits, and as much accumulation as the rest of the batch needs.

    Args:
        demand: of the run, with the largest micro-batch that is wanted.
        effective_batch: rows per optimizer step, of all GPUs together.
        gpus: that share it.
        capacity_gb: memory of one GPU, in GB; None where nothing limits.

    Raises:
        UsageError: the GPUs cannot share the batch equally.
        DoesNotFitError: not even one row at a time fits.
    """
    if effective_batch % gpus:
        nearest = gpus * max(1, round(effective_batch / gpus))
        raise UsageError(f"{gpus} GPUs cannot share a batch of {effective_batch} equally: {nearest} would do")
    own = effective_batch // gpus
    demand = replace(demand, micro_batch=micro_batch(own, demand.micro_batch))
    fit = largest_fit(demand, own, capacity_gb)
    accumulation = own // fit.micro_batch
    there = "" if capacity_gb is None else f" of {capacity_gb:g} GB"
    reasons = [f"{fit.micro_batch} rows of {demand.length} tokens need about {fit.estimate.total_gb:.1f} GB{there}"]
    if accumulation >= MUCH_ACCUMULATION:
        reasons.append(f"{accumulation} micro-batches a step want bf16 and clipping at 1.0 (fine-tuning guides)")
    return BatchPlan(fit.micro_batch, accumulation, gpus, fit.estimate.total_gb, reasons)


def rate_for_batch(rate: float, batch: int, wanted: int) -> float:
    """The learning rate that a batch of `wanted` rows wants, where one of `batch` rows wants `rate`."""
    return rate * math.sqrt(wanted / batch)
