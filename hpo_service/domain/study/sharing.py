"""What a study may ask of several GPUs for one trial, and of a base that they hold in shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.validation import Violations

if TYPE_CHECKING:
    from hpo_service.domain.study.spec import StudySpec

SHARDABLE: dict[str, tuple[str, ...]] = {
    "method": ("lora", "rslora"),
    "init_lora_weights": ("default", "gaussian"),
    "lora_bias": ("none",),
}
"""Values with which adapters need nothing of the base's weights but their product with the input."""


def check_batches(spec: StudySpec, wrong: Violations) -> None:
    """Note where an effective batch is not whole micro-batches on every GPU: rows left over would weigh differently."""
    micro, gpus = spec.training.micro_batch, spec.execution.gpus_per_trial
    batches = [batch for batch in spec.values_of("effective_batch") if isinstance(batch, int)]
    for batch in [*batches, *_batches_to_beat(spec)]:
        if batch % gpus:
            reason = f"must divide the effective batch: {batch} rows cannot be shared equally by {gpus} GPUs"
            remedy = "" if batch in batches else " (the default that confirm compares with: see confirm.default)"
            wrong.add(reason + remedy, "execution", "gpus_per_trial")
            return
    for batch in batches:
        if micro is not None and batch // gpus % micro:
            share = f" / {gpus} GPUs" if gpus > 1 else ""
            reason = f"must divide the effective batch{share}: {batch}{share} is no multiple of {micro}"
            wrong.add(reason, "training", "micro_batch")
            return


def _batches_to_beat(spec: StudySpec) -> list[int]:
    """The effective batch of the configuration that confirm compares with, where it has one of its own."""
    given = (spec.confirm.default or {}).get("effective_batch")
    if not spec.confirm.enabled or (given is None and "effective_batch" not in spec.space.resolve().parameters):
        return []
    return [given if isinstance(given, int) else Hyperparameters().effective_batch]


def _check_parallel(spec: StudySpec, wrong: Violations) -> None:
    place, gpus = ("search", "parallel_per_gpu"), spec.execution.gpus_per_trial
    if gpus > 1:
        wrong.add(
            f"a trial on {gpus} GPUs has them to itself: set parallel_per_gpu to 1, or gpus_per_trial to 1", *place
        )
    if spec.objective is not None:
        wrong.add("trials of an objective of your own run one at a time on a worker: set it to 1", *place)


def check_sharing(spec: StudySpec, wrong: Violations) -> None:
    """Note what does not go with several GPUs for one trial, and with a base in shares."""
    gpus = spec.execution.gpus_per_trial
    if spec.search.parallel_per_gpu not in ("auto", 1):
        _check_parallel(spec, wrong)
    if spec.execution.sharding == "none":
        return
    place = ("execution", "sharding")
    if gpus == 1:
        wrong.add("fsdp shares the base out among several GPUs: set gpus_per_trial above 1, or use none", *place)
    if spec.objective is not None:
        wrong.add("is for the built-in trainer: an objective of your own shares out its model itself", *place)
        return
    to_beat = spec.confirm.default or {}
    for name, allowed in SHARDABLE.items():
        given = [*spec.values_of(name), to_beat.get(name, allowed[0])]
        refused = next((value for value in given if value not in allowed), None)
        if refused is not None:
            reason = f"fsdp cannot hold the base for {name} {refused}"
            wrong.add(f"{reason}: use {' or '.join(allowed)}, or none here", *place)
    if spec.model is not None and spec.model.quantisation != "none":
        wrong.add(f"fsdp does not hold {spec.model.quantisation} weights: set model.quantisation to none", *place)
    if spec.evaluation.metrics:
        wrong.add("fsdp computes losses only, and no answers: drop evaluation.metrics, or use none", *place)
