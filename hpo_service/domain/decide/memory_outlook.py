"""What the trials of a study will need of memory: the smallest and the largest configuration of its space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from hpo_service.domain.decide.transfer.scaling import scaled_rank
from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import estimate
from hpo_service.domain.memory.micro_batches import smaller_micro_batches
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.spec import StudySpec

# Hyper-parameters that decide how much memory a trial takes.
DECIDING = ("method", "lora_rank", "target_modules", "optimizer", "prefix_tokens", "lora_dropout", "effective_batch")
# Bytes of a number in matrix products, by `model.dtype`; auto is a 16-bit type on a GPU.
COMPUTE_BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Outlook:
    """The ends of what the trials of one model need on a GPU, with rows of `data.max_length`."""

    smallest: Demand
    largest: Demand

    def micro_batch_on(self, capacity_gb: float) -> int | None:
        """Rows of a micro-batch with which even the largest configuration fits this much memory; None if none does."""
        sizes = smaller_micro_batches(self.largest.micro_batch, self.largest.micro_batch)
        fits = [size for size in sizes if estimate(replace(self.largest, micro_batch=size)).total_gb <= capacity_gb]
        return fits[0] if fits else None


def memory_outlook(spec: StudySpec, shape: ModelShape, *, target: bool) -> Outlook | None:
    """The outlook for a study's base, or for its target with ranks as they are carried over.

    None where there is nothing to say beforehand: an objective of the user's own, or only models from scratch.
    """
    demands = sorted(_demands(spec, shape, target=target), key=lambda demand: estimate(demand).total_gb)
    return Outlook(demands[0], demands[-1]) if demands else None


def _demands(spec: StudySpec, shape: ModelShape, *, target: bool) -> Iterator[Demand]:
    if spec.model is None or spec.data is None:
        return
    for training in _runs(spec):
        if METHODS[training.method].base == "new":
            continue
        ranks = spec.execution.gpus_per_trial
        demand = Demand.of(
            training,
            shape,
            length=spec.data.max_length,
            compute_bytes=COMPUTE_BYTES[spec.model.dtype],
            quantisation=spec.model.quantisation,
            ranks=ranks,
            shards=ranks if spec.execution.sharding == "fsdp" else 1,
        )
        carried = target and METHODS[training.method].low_rank
        yield replace(demand, rank=scaled_rank(demand.rank, spec.transfer)) if carried else demand


def _runs(spec: StudySpec) -> Iterator[TrainingSpec]:
    """Every combination of what decides, of long ranges the ends."""
    choices = {name: values for name in DECIDING if (values := spec.values_of(name))}
    fixed: dict[str, Any] = spec.training.model_dump(exclude_unset=True)
    for combination in product(*choices.values()):
        yield TrainingSpec.model_validate({**fixed, **dict(zip(choices, combination, strict=True))})
