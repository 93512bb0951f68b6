"""How likely a configuration is to keep its study's limits, under a Gaussian process of each cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from hpo_service.domain.study.sections.search import COSTS
from hpo_service.search.gaussian.encoding import Encoding, Rows
from hpo_service.search.gaussian.process import fitted

Vector = NDArray[np.float64]

FEWEST = 2
"""Trials from which on a cost is modelled."""


def limits_of(trial: FrozenTrial) -> dict[str, float]:
    """Return by limit of the study how far a trial is beyond it, in the logarithm; above 0 it broke the limit."""
    return {name: excess for name, excess in trial.constraints.items() if name in COSTS}


def kept(trial: FrozenTrial) -> bool:
    """Whether a trial broke no limit that is known of it."""
    return all(excess <= 0 for excess in limits_of(trial).values())


def chances(encoding: Encoding, trials: Sequence[FrozenTrial], rows: Rows) -> Vector:
    """Return for each row the probability that it keeps all limits, which are taken to be independent.

    Gardner et al., "Bayesian optimization with inequality constraints" (2014): with it expected improvement is
    multiplied.

    Args:
        encoding: turns configurations into rows.
        trials: that have ended.
        rows: the configurations that are asked for, n x columns.
    """
    from scipy.special import ndtr

    found = np.ones(len(rows))
    for name in COSTS:
        told = [(trial.params, limits_of(trial)[name]) for trial in trials if name in limits_of(trial)]
        if len(told) < FEWEST:
            continue
        excess = np.array([each for _, each in told])
        middle, unit = float(excess.mean()), float(excess.std()) or 1.0
        process = fitted(encoding.rows(params for params, _ in told), (excess - middle) / unit, encoding.owners)
        mean, deviation = process.predict(rows)
        found = found * ndtr((-middle / unit - mean) / deviation)
    return np.asarray(found)
