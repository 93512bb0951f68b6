"""Which worker may have the trials of a stage: what they need, against what it has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from hpo_service.domain.decide.memory_outlook import memory_outlook
from hpo_service.domain.memory.estimate import estimate
from hpo_service.domain.memory.fit import REFUSED_ABOVE
from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts


@dataclass(frozen=True)
class Resources:
    """What a worker has, as it says itself.

    Attributes:
        gpus: GPUs it may use; None where it has none, and the CPU serves any number of processes.
        memory_gb: memory of the smallest of them in GB of 1e9 bytes; None where it has none, or it is not told.
        labels: what it may be asked for: its GPU's product name, `gpu` (`mig` too for a slice) or `cpu`, and its own.
    """

    gpus: int | None = None
    memory_gb: float | None = None
    labels: tuple[str, ...] = ()

    @classmethod
    def read(cls, stored: object) -> Self:
        """Read what was stored; of a worker of an earlier version nothing is known."""
        known: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
        labels = tuple(str(label) for label in known.get("labels") or ())
        return cls(known.get("gpus"), known.get("memory_gb"), labels)

    def document(self) -> dict[str, Any]:
        """As plain data, to be stored and shown."""
        return {**asdict(self), "labels": list(self.labels)}


NOT_TOLD = Resources()
"""Of a worker that has said nothing."""


def product_label(name: str) -> str:
    """A GPU's product name as a label, e.g. `nvidia-h100-80gb-hbm3`."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:63]


@dataclass(frozen=True)
class Needs:
    """What the trials of a stage need of a worker; `estimated`: the memory was estimated, not asked for."""

    gpus: int = 1
    memory_gb: float | None = None
    labels: tuple[str, ...] = ()
    estimated: bool = False

    def missing(self, has: Resources) -> str:
        """Say what a worker lacks; empty where it may have these trials."""
        lacks = []
        if has.gpus is not None and has.gpus < self.gpus:
            lacks.append(f"{self.gpus} GPUs")
        if self.memory_gb is not None and (has.memory_gb is None or has.memory_gb < self.memory_gb):
            lacks.append(f"{'about ' if self.estimated else ''}{self.memory_gb:.3g} GB on each GPU")
        labels = [label for label in self.labels if label not in has.labels]
        if labels:
            lacks.append(f"label{'s' * (len(labels) > 1)} {', '.join(labels)}")
        return " and ".join(lacks)

    def missing_everywhere(self, workers: Sequence[Resources]) -> str:
        """Say what the worker that comes nearest lacks; empty where one of them may have these trials."""
        return min((self.missing(each) for each in workers), key=len, default="")


def needs_of(spec: StudySpec, stage: StageRule, facts: Mapping[str, ModelFacts]) -> Needs:
    """What a stage of a study needs; an estimate that cannot be made (the model is not known yet) asks for nothing."""
    asked = spec.execution.requires.of_stage(stage.name)
    needs = Needs(spec.execution.gpus_per_trial, labels=tuple(asked.labels or ()))
    if asked.memory_gb != "estimate":
        return replace(needs, memory_gb=asked.memory_gb)
    return replace(needs, memory_gb=_least_gb(spec, stage, facts), estimated=True)


def _least_gb(spec: StudySpec, stage: StageRule, facts: Mapping[str, ModelFacts]) -> float | None:
    """The least memory with which a child would not refuse the stage's largest trial, one row at a time."""
    known = facts.get(stage.model_of(spec) or "")
    if known is None or known.shape is None:
        return None
    carried = stage.model == "target" and spec.model is not None and spec.model.target is not None
    outlook = memory_outlook(spec, known.shape, target=carried)
    if outlook is None:
        return None
    return estimate(replace(outlook.largest, micro_batch=1)).total_gb / REFUSED_ABOVE
