"""What is certain of a configuration's costs before it runs: a proposal that cannot keep a limit is not run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hpo_service.domain.decide.goals.costs import adapter_mb
from hpo_service.domain.decide.goals.limits import SECTION
from hpo_service.domain.decide.memory_outlook import COMPUTE_BYTES
from hpo_service.domain.decide.transfer.scaling import scaled_rank
from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import estimate, trained_weights
from hpo_service.domain.memory.fit import REFUSED_ABOVE
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import METHODS, STARTS
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts

Foreseen = Callable[[Mapping[str, ParameterValue]], str]
"""Says why a configuration cannot keep a limit; nothing where it may."""
DECIDING = ("method", "lora_rank", "target_modules", "init_lora_weights", "optimizer", "prefix_tokens")
"""Hyper-parameters from which it follows."""
LOOKED_AT = 1_000
"""Candidates for one trial that are passed over before a stream of them is given up."""


@dataclass
class Barrier:
    """Lets through what may keep the limits, and remembers what it passed over.

    Attributes:
        look: looks at a configuration; None where everything may pass.
        passed_over: how many were not let through.
        first: why the first of them was not.
    """

    look: Foreseen | None
    passed_over: int = 0
    first: str = ""

    def __call__(self, candidates: Iterable[dict[str, ParameterValue]]) -> Iterator[dict[str, ParameterValue]]:
        """Yield those of the candidates that may run; the stream ends after too many in a row that may not."""
        in_a_row = 0
        for candidate in candidates:
            why = self.look(candidate) if self.look is not None else ""
            if not why:
                in_a_row = 0
                yield candidate
                continue
            self.passed_over, self.first, in_a_row = self.passed_over + 1, self.first or why, in_a_row + 1
            if in_a_row >= LOOKED_AT:
                return

    @property
    def remark(self) -> str:
        """What was passed over, in words; empty where nothing was."""
        if not self.passed_over:
            return ""
        if self.passed_over == 1:
            return f"a proposal was passed over for what it would cost: {self.first}"
        return f"{self.passed_over} proposals were passed over for what they would cost, the first: {self.first}"


def foreseen(spec: StudySpec, facts: Mapping[str, ModelFacts]) -> Foreseen | None:
    """Return what looks at configurations beforehand; None where nothing is limited that can be told.

    Of each model of the study whose sizes are known: an adapter's size follows from rank and targets, on the target
    with the rank as it is carried over; of the memory, what weights, adapter and optimizer take before the first batch
    is the least that a run can do with. Estimates may be off: memory is only refused above 1.1 times the limit.

    Args:
        spec: the study.
        facts: what is known of its models, by their names.
    """
    limits, model = spec.search.constraints.given(), spec.model
    if model is None or not limits.keys() & {"adapter_mb", "memory_gb"}:
        return None
    named = [("base", model.base), *([("target", model.target)] if model.target is not None else [])]
    known = [(role, facts[name]) for role, name in named if name in facts]
    shaped = [(role, fact.shape) for role, fact in known if fact.shape is not None]
    if not shaped:
        return None
    fixed: dict[str, Any] = spec.training.model_dump(exclude_unset=True)

    seen: dict[tuple[ParameterValue | None, ...], str] = {}

    def look(parameters: Mapping[str, ParameterValue]) -> str:
        case = tuple(parameters.get(name) for name in DECIDING)
        if case not in seen:
            seen[case] = looked_at({name: parameters[name] for name in DECIDING if name in parameters})
        return seen[case]

    def looked_at(parameters: Mapping[str, ParameterValue]) -> str:
        hyper = spec.training.hyperparameters().with_values(dict(parameters))
        if METHODS[hyper.method].base == "new":
            return ""
        training = TrainingSpec.model_validate(
            {**_without_alpha(fixed), **_without_alpha(hyper.model_dump(exclude_unset=True))}
        )
        for role, shape in shaped:
            demand = Demand.of(
                training,
                shape,
                length=0,
                compute_bytes=COMPUTE_BYTES[model.dtype],
                quantisation=model.quantisation,
                ranks=spec.execution.gpus_per_trial,
                shards=spec.execution.gpus_per_trial if spec.execution.sharding == "fsdp" else 1,
            )
            if role == "target" and model.target != model.base and METHODS[training.method].low_rank:
                demand = replace(demand, rank=scaled_rank(demand.rank, spec.transfer))
            for said in _broken(demand, hyper, limits):
                return f"on {role} {getattr(model, role)} {said}"
        return ""

    return look


def _broken(demand: Demand, hyper: Hyperparameters, limits: Mapping[str, float]) -> Iterator[str]:
    """Say of each limit that it is certain to be broken."""
    moves = hyper.reads("init_lora_weights") and STARTS[hyper.init_lora_weights].moves_base
    size, most = adapter_mb(trained_weights(demand), moves_base=moves), limits.get("adapter_mb")
    if most is not None and size > most:
        yield f"its adapter would take {size:.4g} MB, and {SECTION}.adapter_mb allows {most:g} MB"
    least, most = estimate(demand).tensors_gb, limits.get("memory_gb")
    if most is not None and least > REFUSED_ABOVE * most:
        yield (
            f"it would take {least:.4g} GB of memory before its first batch, and {SECTION}.memory_gb allows {most:g} GB"
        )


def _without_alpha(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what decides neither size nor memory and may be given in two ways."""
    return {name: value for name, value in values.items() if name not in ("lora_alpha", "lora_alpha_multiplier")}
