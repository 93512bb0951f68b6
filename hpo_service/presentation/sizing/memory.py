"""What the trials of a study need of a GPU's memory: as a table, and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpo_service.domain.memory.estimate import estimate
from hpo_service.presentation.text_table import TextTable
from hpo_service.service.studies.memory import ModelMemory

LARGEST = "largest trial"
"""The row that people look for first."""


def memory_document(models: Sequence[ModelMemory], sizes: Sequence[float]) -> dict[str, Any]:
    """Return the outlooks by role as plain data, in GB of 1e9 bytes; `sizes` are those of GPUs, in GB."""
    return {model.role: _model(model, sizes) for model in models}


def _model(model: ModelMemory, sizes: Sequence[float]) -> dict[str, Any]:
    largest = estimate(model.outlook.largest)
    return {
        "model": model.name,
        "parts": largest.parts,
        "context_and_fragmentation": largest.reserve_gb,
        "largest_gb": largest.total_gb,
        "smallest_gb": estimate(model.outlook.smallest).total_gb,
        "micro_batch": {f"{size:g}": model.outlook.micro_batch_on(size) for size in sizes},
    }


def memory_tables(models: Sequence[ModelMemory], sizes: Sequence[float]) -> list[TextTable]:
    """Lay out parts, totals and micro-batches of each model as three tables of the same columns, one below another."""
    heads = ["GB", *(f"{model.role}: {model.name}" for model in models)]
    estimates = [estimate(model.outlook.largest) for model in models]
    parts = [[part, *(f"{each.parts[part]:.2f}" for each in estimates)] for part in estimates[0].parts]
    smallest = [estimate(model.outlook.smallest).total_gb for model in models]
    return [
        TextTable(heads, [*parts, ["context and fragmentation", *(f"{each.reserve_gb:.2f}" for each in estimates)]]),
        TextTable(
            heads,
            [
                [LARGEST, *(f"{each.total_gb:.2f}" for each in estimates)],
                ["smallest trial", *(f"{total:.2f}" for total in smallest)],
                ["micro-batch", *(str(model.outlook.largest.micro_batch) for model in models)],
            ],
        ),
        TextTable(
            heads, [[f"micro-batch on {size:g} GB", *(_fits(model, size) for model in models)] for size in sizes]
        ),
    ]


def _fits(model: ModelMemory, size: float) -> str:
    rows = model.outlook.micro_batch_on(size)
    return "too large" if rows is None else str(rows)
