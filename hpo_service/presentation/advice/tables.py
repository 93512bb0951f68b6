"""Recommendations, batch plans and counts of weights: tables and plain data."""

from __future__ import annotations

from typing import Any

from hpo_service.domain.advise.batch_plan import SQUARE_ROOT, BatchPlan, rate_for_batch
from hpo_service.domain.advise.lora_parameters import SOURCE, LoraParameters
from hpo_service.domain.advise.recommendation import Recommendation
from hpo_service.presentation.formatting import number
from hpo_service.presentation.text_table import TextTable


def recommendation_document(model: str, found: Recommendation) -> dict[str, Any]:
    """Return a recommendation as plain data; `training` is the section of a study file."""
    advice = [
        {"name": each.name, "value": each.value, "reason": each.reason, "source": each.source} for each in found.advice
    ]
    return {"model": model, "advice": advice, "training": found.training, "needed_gb": found.plan.needed_gb}


def recommendation_table(found: Recommendation) -> TextTable:
    """Lay out a recommendation: what, how much, why."""
    rows = [[each.name, number(each.value), f"{each.reason} [{each.source}]"] for each in found.advice]
    return TextTable(["setting", "value", "why"], rows)


def batch_document(plan: BatchPlan, rate: tuple[float, int] | None, wanted: int) -> dict[str, Any]:
    """Return a batch plan as plain data; `rate` is one with the batch that it is good for."""
    scaled = {} if rate is None else {"learning_rate": rate_for_batch(*rate, wanted), "source": SQUARE_ROOT}
    return {
        "effective_batch": wanted,
        "micro_batch": plan.micro_batch,
        "accumulation": plan.accumulation,
        "gpus": plan.gpus,
        "needed_gb": plan.needed_gb,
        "reasons": plan.reasons,
        **scaled,
    }


def batch_lines(plan: BatchPlan, rate: tuple[float, int] | None, wanted: int) -> list[str]:
    """Say how a batch is cut, and which rate it wants."""
    lines = [f"{plan.micro_batch} rows x {plan.accumulation} x {plan.gpus} GPU(s) = {wanted}"]
    lines += [f"  reason: {reason}" for reason in plan.reasons]
    if rate is not None:
        given, batch = rate
        lines.append(f"learning rate {number(rate_for_batch(given, batch, wanted))}, from {number(given)} at {batch}")
        lines.append(f"  reason: {SQUARE_ROOT}")
    return lines


def lora_document(model: str, found: LoraParameters) -> dict[str, Any]:
    """Return counts of trained weights as plain data."""
    modules = [
        {"role": m.role, "inputs": m.inputs, "outputs": m.outputs, "count": m.count, "trained": by_rank}
        for m, by_rank in found.modules
    ]
    share = {name: {rank: n / found.base for rank, n in ranks.items()} for name, ranks in found.presets.items()}
    return {
        "model": model,
        "base": found.base,
        "modules": modules,
        "presets": found.presets,
        "share": share,
        "source": SOURCE,
    }


def lora_tables(found: LoraParameters) -> list[TextTable]:
    """Lay out counts of trained weights: by module, then by preset with their share of the base."""
    ranks = list(next(iter(found.presets.values())))
    heads = [f"r {rank}" for rank in ranks]
    modules = [
        [f"{m.role} {m.inputs} -> {m.outputs}", str(m.count), *(_count(by_rank[rank]) for rank in ranks)]
        for m, by_rank in found.modules
    ]
    presets = [
        [name, *(f"{_count(by_rank[rank])} ({by_rank[rank] / found.base:.2%})" for rank in ranks)]
        for name, by_rank in found.presets.items()
    ]
    return [TextTable(["module", "count", *heads], modules), TextTable(["target_modules", *heads], presets)]


def _count(weights: int) -> str:
    return f"{weights / 1e6:.2f}M" if weights >= 10_000 else str(weights)
