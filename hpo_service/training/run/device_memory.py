"""This process's device: how much memory it may use, and what a trial will need of it."""

from __future__ import annotations

import gc
import math
import os
from dataclasses import dataclass, replace

import torch

from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import CONTEXT_GB, GB
from hpo_service.domain.memory.fit import MEMORY_SHARE, check_at_rest, largest_fit
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.errors import TrialError
from hpo_service.training.models.base import Base, BaseKey, describe_model


def capacity_gb() -> float | None:
    """What this process may use, its CUDA context included: the device's free memory and what it holds already.

    HPO_SERVICE_MEMORY_GB lowers it, and is all there is to go by on a CPU, where None says that nothing is known.

    Raises:
        TrialError: the variable holds no number above 0.
    """
    cap = _cap()
    if not torch.cuda.is_available():
        return cap
    free, total = torch.cuda.mem_get_info()
    within_reach = min((free + torch.cuda.memory_reserved()) / GB + CONTEXT_GB, total / GB)
    if cap is None:
        return within_reach
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, cap - CONTEXT_GB) * GB / total))
    return min(cap, within_reach)


def check_before_loading(config: TrialConfig, key: BaseKey, ranks: int, capacity: float | None) -> None:
    """Refuse a model that cannot fit before its weights are read; one that is yet to be made is small.

    Raises:
        DoesNotFitError: weights, adapter and optimizer alone are too large.
        ModelError: the model's configuration cannot be used.
    """
    if capacity is None or config.data is None:
        return
    if key.blueprint is not None:
        return
    shape = describe_model(key.name, key.trust_remote_code).shape
    if shape is not None:
        check_at_rest(demand_of(config, key, shape, config.data.max_length, ranks), capacity)


@dataclass(frozen=True)
class Need:
    """What a trial needs of memory.

    Attributes:
        longest: tokens of its longest row.
        demand: what decides its memory, with the micro-batch that fits; None where the model's sizes are not known.
        limit: rows of that micro-batch, or fewer where memory has run out before; None where nothing limits them.
    """

    longest: int
    demand: Demand | None
    limit: int | None

    @classmethod
    def of(
        cls, config: TrialConfig, base: Base, longest: int, ranks: int, capacity: float | None, limit: int | None
    ) -> Need:
        """Choose the largest micro-batch up to `limit` that fits; measured from now on, the peak is this trial's.

        Raises:
            DoesNotFitError: not even one row at a time fits.
        """
        reset_peak()
        if base.facts.shape is None:
            return cls(longest, None, limit)
        demand = demand_of(config, base.key, base.facts.shape, longest, ranks, limit)
        fit = largest_fit(demand, config.training.effective_batch // ranks, capacity)
        return cls(longest, replace(demand, micro_batch=fit.micro_batch), fit.micro_batch)


def demand_of(
    config: TrialConfig, key: BaseKey, shape: ModelShape, length: int, ranks: int, limit: int | None = None
) -> Demand:
    """What decides the memory of this trial on this base.

    Args:
        config: of the trial.
        key: how the base is held.
        shape: its sizes.
        length: tokens of the longest row.
        ranks: processes that share each batch, and the base's weights where it is held in shares.
        limit: rows of a micro-batch, where memory has run out before.
    """
    return Demand.of(
        config.training,
        shape,
        length=length,
        compute_bytes=key.compute.itemsize,
        quantisation=config.model.quantisation if config.model else "none",
        ranks=ranks,
        shards=ranks if key.sharded else 1,
        limit=limit,
        on_gpu=torch.cuda.is_available(),
        correction=config.memory_correction,
    )


def release_memory() -> None:
    """Give back what no tensor uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak() -> None:
    """Begin to measure a new peak; on a CPU the process's peak stays what it was."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _cap() -> float | None:
    text = os.environ.get(MEMORY_SHARE, "")
    if not text:
        return None
    try:
        cap = float(text)
    except ValueError:
        cap = math.nan
    if not 0 < cap < math.inf:
        raise TrialError(f"{MEMORY_SHARE} must be a number of gigabytes above 0, not {text!r}: correct it or unset it")
    return cap
