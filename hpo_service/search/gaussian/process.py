"""Gaussian-process regression with one length for each parameter, fitted by its most probable settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_service.search.gaussian.encoding import Rows

Vector = NDArray[np.float64]

ROOT5 = math.sqrt(5)
JITTER = 1e-8
LENGTH = (0.0, 1.0)
"""Prior of each length's logarithm, mean and deviation: as long as the range, give or take e. Where few trials say
little, a parameter then counts a little; long lengths, of parameters that do not matter, are left to the data."""
AMPLITUDE = (0.0, 1.0)
NOISE = (math.log(0.1), 1.5)
"""Prior of the noise's share of the variance: a third of the spread, give or take a factor of two."""
STARTS = (0.0, -0.7)
"""Logarithms of the lengths from which the fit begins; the better end is kept."""
ITERATIONS = 60


@dataclass(frozen=True)
class Process:
    """What is believed of all configurations, given some: a Matern 5/2 kernel (Rasmussen and Williams, 2006, ch. 4, 5).

    Attributes:
        rows: the configurations that were measured, n x columns.
        values: what they measured, n, about 0 with spread 1.
        owners: for each column its parameter.
        settings: logarithms: a length for each parameter, then the amplitude's and the noise's variance.
    """

    rows: Rows
    values: Vector
    owners: NDArray[np.int64]
    settings: Vector

    def predict(self, rows: Rows) -> tuple[Vector, Vector]:
        """Return mean and standard deviation of the noise-free value at other configurations, m each."""
        from scipy.linalg import cho_solve, solve_triangular

        lengths, amplitude, noise = _split(self.settings)
        known = amplitude * _matern(_distances(self.rows, self.rows, self.owners), lengths)
        root = np.linalg.cholesky(known + (noise + JITTER) * np.eye(len(self.values)))
        shared = amplitude * _matern(_distances(rows, self.rows, self.owners), lengths)
        mean = shared @ cho_solve((root, True), self.values)
        told = solve_triangular(root, shared.T, lower=True)
        return mean, np.sqrt(np.maximum(amplitude - (told**2).sum(axis=0), 1e-12))

    def believing(self, rows: Rows) -> Process:
        """Return what would be believed if other configurations measured exactly what is expected of them.

        So several may be tried at once without all lying in one place: the kriging believer (Ginsbourger et al., 2010).
        """
        if not len(rows):
            return self
        mean, _ = self.predict(rows)
        return Process(np.vstack([self.rows, rows]), np.append(self.values, mean), self.owners, self.settings)


def fitted(rows: Rows, values: Vector, owners: NDArray[np.int64]) -> Process:
    """Fit a process: the settings that are most probable given the values and the priors."""
    from scipy.optimize import minimize

    count = int(owners.max()) + 1 if len(owners) else 0
    distances = _distances(rows, rows, owners)
    bounds = [(-4.0, 4.0)] * (count + 1) + [(-14.0, 1.0)]
    ends = [
        minimize(
            _improbability,
            np.array([start] * count + [AMPLITUDE[0], NOISE[0]]),
            args=(distances, values),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": ITERATIONS},
        )
        for start in STARTS
    ]
    return Process(rows, values, owners, np.asarray(min(ends, key=lambda end: float(end.fun)).x))


def _split(settings: Vector) -> tuple[Vector, float, float]:
    return settings[:-2], math.exp(settings[-2]), math.exp(settings[-1])


def _distances(one: Rows, other: Rows, owners: NDArray[np.int64]) -> NDArray[np.float64]:
    """Squared distances by parameter: parameters x n x m."""
    by_column = (one[:, None, :] - other[None, :, :]) ** 2
    count = int(owners.max()) + 1 if len(owners) else 0
    return np.stack([by_column[:, :, owners == each].sum(axis=2) for each in range(count)])


def _radius(distances: NDArray[np.float64], lengths: Vector) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.tensordot(np.exp(-2 * lengths), distances, 1) + 1e-12))


def _matern(distances: NDArray[np.float64], lengths: Vector) -> NDArray[np.float64]:
    radius = _radius(distances, lengths)
    return np.asarray((1 + ROOT5 * radius + 5 / 3 * radius**2) * np.exp(-ROOT5 * radius))


def _improbability(settings: Vector, distances: NDArray[np.float64], values: Vector) -> tuple[float, Vector]:
    """Negative logarithm of the posterior density of the settings, and its gradient (ibid., eq. 5.8 and 5.9)."""
    from scipy.linalg import cho_solve

    lengths, amplitude, noise = _split(settings)
    unit, eye = _matern(distances, lengths), np.eye(len(values))
    try:
        root = np.linalg.cholesky(amplitude * unit + (noise + JITTER) * eye)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(settings)
    weights = cho_solve((root, True), values)
    found = 0.5 * float(values @ weights) + float(np.log(np.diag(root)).sum())
    slope = 0.5 * (cho_solve((root, True), eye) - np.outer(weights, weights))
    radius = _radius(distances, lengths)
    by_square = amplitude * -5 / 6 * (1 + ROOT5 * radius) * np.exp(-ROOT5 * radius)
    of_lengths = np.tensordot(distances, slope * by_square, 2) * -2 * np.exp(-2 * lengths)
    gradient = np.concatenate([of_lengths, [(slope * amplitude * unit).sum(), np.trace(slope) * noise]])
    means = np.array([LENGTH[0]] * len(lengths) + [AMPLITUDE[0], NOISE[0]])
    deviations = np.array([LENGTH[1]] * len(lengths) + [AMPLITUDE[1], NOISE[1]])
    off = (settings - means) / deviations
    return found + 0.5 * float(off @ off), gradient + off / deviations
