"""The quickstart's search without training: a smooth function through the losses of trials that were trained once."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML
from scipy.interpolate import RBFInterpolator

from benchmarks.searching.problems import BEST, Configuration, Loss, Problem
from hpo_service.domain.decide.start.beginning import beginnings
from hpo_service.domain.study.spec import StudySpec

STUDY = Path(__file__).parents[2] / "studies" / "quickstart.yaml"
TABLE = Path(__file__).parent / "quickstart.csv"
SMOOTHING = 1e-3
MATTER_LESS = {"lora_dropout": 0.3, "warmup_ratio": 0.3, "weight_decay": 0.1}
"""How much of a range counts as much as the whole range of the learning rate: without it, in six dimensions, a few
hundred points are too far from each other to tell anything."""


def quickstart() -> Problem:
    """Return the quickstart as a search among others: one and the same loss for every seed."""
    study = StudySpec.model_validate(YAML(typ="safe").load(STUDY))
    predicted, lowest = surrogate(TABLE)

    def loss(configuration: Configuration) -> float:
        return BEST + predicted(configuration) - lowest

    # its range leaves the default out, so that its search begins without it
    default = next((each.parameters for each in beginnings(study)), {})
    return Problem("quickstart", "its own trials", study.space.resolve(), default, lambda _: loss)


def surrogate(table: Path) -> tuple[Loss, float]:
    """Fit the table; return the function, and the lowest loss that was measured, in nats per token."""
    with table.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    places = np.array([_place(row) for row in rows])
    losses = np.array([row["validation_loss"] for row in rows])
    fitted = RBFInterpolator(places, losses, kernel="thin_plate_spline", smoothing=SMOOTHING)
    return (lambda configuration: float(fitted(np.array([_place(configuration)]))[0])), float(losses.min())


def error(table: Path, folds: int = 10) -> tuple[float, float]:
    """Return the surrogate's typical error on trials it was not fitted to, and the spread of the losses, in nats."""
    with table.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    places, losses = np.array([_place(row) for row in rows]), np.array([row["validation_loss"] for row in rows])
    missed = np.empty(len(rows))
    for fold in range(folds):
        left_out = np.arange(len(rows)) % folds == fold
        fitted = RBFInterpolator(places[~left_out], losses[~left_out], kernel="thin_plate_spline", smoothing=SMOOTHING)
        missed[left_out] = fitted(places[left_out]) - losses[left_out]
    return float(np.sqrt(np.mean(missed**2))), float(losses.std())


def _place(row: Configuration) -> list[float]:
    """Stand a configuration in a space where distance means unlikeness: rate and rank by their logarithms."""
    return [
        math.log10(float(row["learning_rate"])),
        math.log2(float(row["lora_rank"])) / 4,
        math.log2(float(row["lora_alpha_multiplier"])) / 2,
        *(size * float(row[name]) / _ENDS[name] for name, size in MATTER_LESS.items()),
    ]


_ENDS = {"lora_dropout": 0.15, "warmup_ratio": 0.1, "weight_decay": 0.1}
