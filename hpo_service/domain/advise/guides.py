"""What fine-tuning guides set, by rows, size and task; where they disagree, which of them is followed and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo_service.domain.study.methods import METHODS

GUIDES = "public fine-tuning guides"
BASE_BATCH = 16
"""Effective batch that the guides' learning rates belong to."""
PLAIN = "lora"
"""The method whose rates are given by size; those of others stand to them as the methods' usual starts do."""


@dataclass(frozen=True)
class BySize:
    """What models of up to `weights` weights are given.

    Attributes:
        weights: the largest of them.
        rate: learning rate of LoRA at an effective batch of 16.
        reason: where that comes from.
        least_batch, most_batch: ends of the effective batch.
    """

    weights: float
    rate: float
    reason: str
    least_batch: int
    most_batch: int


SIZES = (
    BySize(
        4e9,
        3e-4,
        "guides give 5e-4 to 1e-3 at 1B to 3B in their table by size, and at most 3e-4 in that by method; the largest "
        "rate that both come near is taken, since a measured search on a model of 135M ended at 2.4e-4",
        4,
        32,
    ),
    BySize(10e9, 2e-4, "guides give 1e-4 to 3e-4 and 2e-4 to 5e-4 for 7B; 2e-4 lies in both", 8, 64),
    BySize(20e9, 1e-4, "guides give 5e-5 to 2e-4 and 1e-4 to 2e-4 for 13B; 1e-4 lies in both", 16, 128),
    BySize(math.inf, 5e-5, "guides give 1e-5 to 5e-5 for 70B and 5e-5 to 1e-4 from 30B on; 5e-5 lies in both", 32, 256),
)


@dataclass(frozen=True)
class ByRows:
    """What up to `rows` training rows are given; `epochs_said` is the range that guides give."""

    rows: float
    batch: int
    epochs: int
    epochs_said: str
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    dropout: float


ROWS = (
    ByRows(999, 8, 5, "3 to 5", 0.1, 0.05, 0.3, 0.05),
    ByRows(5_000, 16, 3, "2 to 3", 0.03, 0.01, 1.0, 0.05),
    ByRows(10_000, 16, 2, "1 to 2", 0.03, 0.01, 1.0, 0.05),
    ByRows(50_000, 32, 2, "1 to 2", 0.03, 0.01, 1.0, 0.0),
    ByRows(100_000, 32, 1, "1", 0.03, 0.01, 1.0, 0.0),
    ByRows(math.inf, 64, 1, "1", 0.03, 0.01, 1.0, 0.0),
)


@dataclass(frozen=True)
class Task:
    """What is to be learned, and by how much that changes the rank that the rows ask for."""

    summary: str
    rank_factor: float


TASKS = {
    "style": Task("a tone, a format, a short answer", 0.5),
    "general": Task("instructions of many kinds", 1.0),
    "complex": Task("new knowledge, code, reasoning, a language", 2.0),
}
"""Tasks by name."""
RANKS = ((2_000, 8), (10_000, 16), (math.inf, 32))
"""Rank of the adapters for up to so many rows."""
LADDER = (
    ("lora", "adamw_torch_fused"),
    ("qlora", "adamw_torch_fused"),
    ("qlora", "paged_adamw_8bit"),
)
"""Methods with their optimizers, from the one that is taken where it fits to the smallest."""


def by_size(weights: int) -> BySize:
    """The row for a model of so many weights."""
    return next(each for each in SIZES if weights <= each.weights)


def by_rows(rows: int) -> ByRows:
    """The row for so many training rows."""
    return next(each for each in ROWS if rows <= each.rows)


def method_factor(method: str) -> float:
    """How a method's usual rate stands to that of plain LoRA."""
    return METHODS[method].rates.start / METHODS[PLAIN].rates.start
