"""What a study may ask of the devices of a trial: to share its batch, its base, or themselves with other trials."""

from __future__ import annotations

from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import METHODS, STARTS
from hpo_service.domain.study.validation import Violations

SHARDABLE: dict[str, tuple[str, ...]] = {
    "method": tuple(name for name, method in METHODS.items() if method.shardable),
    "init_lora_weights": tuple(name for name, start in STARTS.items() if start.shardable),
    "lora_bias": ("none",),
}
"""Values with which adapters need nothing of the base's weights but their product with the input."""


def batches_are_shared_equally(study: StudyFields, wrong: Violations) -> None:
    """An effective batch is whole micro-batches on every GPU: rows left over would weigh differently."""
    micro, gpus = study.training.micro_batch, study.execution.gpus_per_trial
    batches = [batch for batch in study.values_of("effective_batch") if isinstance(batch, int)]
    for batch in [*batches, *_batches_to_beat(study)]:
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


def _batches_to_beat(study: StudyFields) -> list[int]:
    """The effective batch of the configuration that confirm compares with, where it has one of its own."""
    given = (study.confirm.default or {}).get("effective_batch")
    if not study.confirm.enabled or (given is None and "effective_batch" not in study.space.resolve().parameters):
        return []
    return [given if isinstance(given, int) else Hyperparameters().effective_batch]


def trials_can_share_a_device(study: StudyFields, wrong: Violations) -> None:
    """Trials that are asked to run side by side are of the built-in trainer, on one device each."""
    if study.search.parallel_per_gpu in ("auto", 1):
        return
    place, gpus = ("search", "parallel_per_gpu"), study.execution.gpus_per_trial
    if gpus > 1:
        wrong.add(
            f"a trial on {gpus} GPUs has them to itself: set parallel_per_gpu to 1, or gpus_per_trial to 1", *place
        )
    if study.objective is not None:
        wrong.add("trials of an objective of your own run one at a time on a worker: set it to 1", *place)


def a_base_can_be_sharded(study: StudyFields, wrong: Violations) -> None:
    """A base in shares needs several devices, and trials that never need it whole."""
    gpus = study.execution.gpus_per_trial
    if study.execution.sharding == "none":
        return
    place = ("execution", "sharding")
    if gpus == 1:
        wrong.add("fsdp shares the base out among several GPUs: set gpus_per_trial above 1, or use none", *place)
    if study.objective is not None:
        wrong.add("is for the built-in trainer: an objective of your own shares out its model itself", *place)
        return
    to_beat = study.confirm.default or {}
    for name, allowed in SHARDABLE.items():
        given = [*study.values_of(name), to_beat.get(name, allowed[0])]
        refused = next((value for value in given if value not in allowed), None)
        if refused is not None:
            reason = f"fsdp cannot hold the base for {name} {refused}"
            wrong.add(f"{reason}: use {' or '.join(allowed)}, or none here", *place)
    if study.model is not None and study.model.quantisation != "none":
        wrong.add(f"fsdp does not hold {study.model.quantisation} weights: set model.quantisation to none", *place)
    if study.evaluation.metrics or study.evaluation.select:
        asked = "metrics" if study.evaluation.metrics else "select"
        wrong.add(f"fsdp computes losses only, and no answers: drop evaluation.{asked}, or use none", *place)
