"""Several goals as one: augmented Chebyshev scalarisation, with weights drawn anew for each trial."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from hpo_service.domain.study.direction import Direction

Vector = NDArray[np.float64]

AUGMENTED = 0.05
"""Weight of the sum beside the largest part, by which points that are only weakly better lose (Knowles, 2006)."""


def cut(losses: Vector) -> Vector:
    """Cut losses where they lie further above the median than the best lies below it.

    How bad a bad trial is says nothing of where the best is, and one that diverged would flatten all the others. Where
    half of them are equal and best, as coarse metrics are, the worst that was measured takes the median's place.
    """
    finite = losses[np.isfinite(losses)]
    middle, best = float(np.median(finite)), float(finite.min())
    beyond = (middle - best) or (float(finite.max()) - best) or 1.0
    return np.asarray(np.minimum(losses, middle + beyond))


def scalarised(trials: Sequence[FrozenTrial], direction: Direction, goals: int, seed: int) -> Vector:
    """Return a number for each trial, smaller is better, infinite where a goal was not measured.

    After Knowles, "ParEGO" (2006): each goal is put on 0 to 1, weights are drawn evenly from the simplex, and the
    largest weighted part counts, with a little of their sum. Costs are taken in the logarithm, so that a front which
    spans orders of magnitude is looked for evenly; the loss is cut as for a single goal.

    Args:
        trials: that have ended.
        direction: which losses are better; of costs the smaller ones are.
        goals: how many there are, the loss first.
        seed: decides the weights.
    """
    whole = [trial.values is not None and len(trial.values) == goals for trial in trials]
    table = np.array([t.values if w else [math.inf] * goals for t, w in zip(trials, whole, strict=True)], dtype=float)
    table = table.reshape(len(trials), goals)
    known = np.isfinite(table).all(axis=1)
    found = np.full(len(trials), math.inf)
    if not known.any():
        return found
    parts = table[known]
    parts[:, 0] = cut(parts[:, 0] if direction is Direction.MINIMIZE else -parts[:, 0])
    parts[:, 1:] = np.log(np.maximum(parts[:, 1:], 1e-12))
    low, high = parts.min(axis=0), parts.max(axis=0)
    unit = (parts - low) / np.where(high > low, high - low, 1.0)
    weighted = np.random.default_rng(seed).dirichlet(np.ones(goals)) * unit
    found[known] = weighted.max(axis=1) + AUGMENTED * weighted.sum(axis=1)
    return found
