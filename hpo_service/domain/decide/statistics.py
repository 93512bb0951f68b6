"""Evidence that one configuration is better than another: paired bootstrap over rows, Student's t over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.scores import Scores

_CHUNK = 4_000_000  # numbers held at once while resampling: about 32 MB
_NOTHING = 1e-6  # a baseline this small, by itself or beside the candidate, is nothing to give a percentage of


@dataclass(frozen=True)
class Comparison:
    """A comparison of a configuration with the baseline.

    Attributes:
        baseline: mean of the baseline over all seeds; of NLLs weighted by tokens, in nats.
        candidate: the same for the candidate.
        improvement: how much better the candidate is, relative to the baseline, in percent; positive is better
            also where the value is maximised.
        low: lower end of the interval of `improvement`; None where one seed says nothing about the spread.
        high: upper end, likewise.
        confidence: level of the interval.
        seeds: seeds per configuration (the smaller number where they differ).
        examples: rows compared; 0 where only the final values of the seeds were compared.
        unit: `%`, or nothing where the baseline is too near 0 to divide by: then `improvement` and its interval are
            the difference itself.
    """

    baseline: float
    candidate: float
    improvement: float
    low: float | None
    high: float | None
    confidence: float
    seeds: int
    examples: int = 0
    unit: str = "%"

    @property
    def distinguishable(self) -> bool:
        """Whether there is an interval and it excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def level(self) -> str:
        """What the interval is called, e.g. `95% interval`."""
        return f"{100 * self.confidence:.4g}% interval"

    @property
    def interval(self) -> str:
        """The ends of the interval in words, e.g. `+1.00% to +2.00%`, or `none`."""
        if self.low is None or self.high is None:
            return "none"
        return f"{self._signed(self.low)} to {self._signed(self.high)}"

    def sentence(self) -> str:
        """Say in words what was found."""
        sample = f"{self.seeds} seed{'s' if self.seeds > 1 else ''} each"
        sample += f", {self.examples} test rows" if self.examples else ""
        why_none = "it takes two seeds of each" if self.seeds < 2 else "the seeds made no difference; are they used?"
        spread = f"no interval: {why_none}" if self.low is None else f"{self.level} {self.interval}"
        if not self.distinguishable:
            return f"not distinguishable from the default ({self._signed(self.improvement)}, {spread}; {sample})"
        word = "better" if self.improvement > 0 else "WORSE"
        by = f"{abs(self.improvement):.2f}{self.unit}"
        return f"{word} than the default by {by} ({spread}; {sample})"

    def _signed(self, value: float) -> str:
        return f"{value:+.2f}{self.unit}"


def compare(
    baseline: Sequence[Scores],
    candidate: Sequence[Scores],
    *,
    confidence: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
) -> Comparison:
    """Compare two configurations on the same test rows, over rows and seeds.

    Every `Scores` holds the same rows in the same order. A resample draws rows with replacement, once for both
    sides (paired), and recomputes both token-weighted means; the interval is the percentile interval (Efron and
    Tibshirani, 1993). Two or three seeds are too few to resample (the interval comes out far too narrow), so each
    resample adds what the seeds' own means vary by: a draw of Student's t with Welch's standard error and degrees
    of freedom. A single seed on a side says nothing about the spread: then there is no interval.

    Raises:
        ValueError: if a side is empty or the rows are not the same.
    """
    if not baseline or not candidate:
        raise ValueError("both sides of a comparison need at least one seed")
    tokens = np.asarray(baseline[0].tokens, dtype=np.float64)
    sides = [_nll_matrix(side, tokens) for side in (baseline, candidate)]
    per_seed = [side.sum(axis=1) / tokens.sum() for side in sides]
    means = [float(seeds.mean()) for seeds in per_seed]
    factor, unit = _scale(*means)
    low = high = None
    if min(len(side) for side in sides) > 1:
        draws = _improvements(sides, per_seed, tokens, resamples, seed, relative=unit == "%")
        tail = 100 * (1 - confidence) / 2
        low, high = (float(end) for end in np.percentile(draws, [tail, 100 - tail]))
    return Comparison(
        baseline=means[0],
        candidate=means[1],
        improvement=factor * (means[0] - means[1]),
        low=low,
        high=high,
        confidence=confidence,
        seeds=min(len(side) for side in sides),
        examples=len(tokens),
        unit=unit,
    )


def compare_values(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    confidence: float = 0.95,
    direction: Direction = Direction.MINIMIZE,
) -> Comparison:
    """Compare the final values of two configurations' seeds, for objectives without per-example scores.

    Welch's t interval of the difference of the means (Welch, 1947), relative to the size of the baseline's mean,
    which is taken as it is. A single seed on a side gives no interval, nor do seeds that made no difference on either
    side: they are one measurement, written down several times.

    Raises:
        ValueError: if a side is empty or a value is not finite.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (baseline, candidate)]
    if not all(len(side) and np.isfinite(side).all() for side in sides):
        raise ValueError("both sides of a comparison need at least one finite value")
    means = [float(side.mean()) for side in sides]
    factor, unit = _scale(*means)
    improvement = factor * direction.improvement(*means)
    low = high = None
    if min(len(side) for side in sides) > 1:
        error, freedom = _welch(*sides)
        if error:
            half = factor * error * t_quantile(0.5 + confidence / 2, freedom)
            low, high = improvement - half, improvement + half
    return Comparison(
        baseline=means[0],
        candidate=means[1],
        improvement=improvement,
        low=low,
        high=high,
        confidence=confidence,
        seeds=min(len(side) for side in sides),
        unit=unit,
    )


def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution, for probabilities in [0.5, 1) and `freedom` of 1 or more.

    Raises:
        ValueError: outside those bounds.
    """
    from scipy.special import stdtrit  # here, because most commands compare nothing and it takes a third of a second

    if not (0.5 <= probability < 1 and freedom >= 1):
        raise ValueError(f"no t quantile at {probability} with {freedom} degrees of freedom")
    return float(stdtrit(freedom, probability))


def _scale(baseline: float, candidate: float) -> tuple[float, str]:
    """Return what turns a difference into an improvement, and the improvement's unit."""
    if abs(baseline) <= max(_NOTHING, _NOTHING * abs(candidate)):
        return 1.0, ""
    return 100.0 / abs(baseline), "%"


def _improvements(
    sides: Sequence[NDArray[np.float64]],
    per_seed: Sequence[NDArray[np.float64]],
    tokens: NDArray[np.float64],
    resamples: int,
    seed: int,
    *,
    relative: bool,
) -> NDArray[np.float64]:
    """Draw improvements, in percent of the drawn baseline or absolute; shape [resamples]."""
    rng = np.random.default_rng(seed)
    baseline, candidate = _row_means(sides, tokens, rng, resamples)
    error, freedom = _welch(*per_seed)
    noise = error * rng.standard_t(freedom, resamples) if error else 0.0
    differences: NDArray[np.float64] = baseline - candidate + noise
    return 100 * differences / np.maximum(baseline, _NOTHING) if relative else differences


def _welch(baseline: NDArray[np.float64], candidate: NDArray[np.float64]) -> tuple[float, float]:
    """Return standard error and degrees of freedom of the difference of two means; (0, inf) where nothing varies.

    Both sides need two values at least.
    """
    parts = [float(side.var(ddof=1)) / len(side) for side in (baseline, candidate)]
    weights = sum(part**2 / (len(side) - 1) for part, side in zip(parts, (baseline, candidate), strict=True))
    if not weights:
        return 0.0, math.inf
    return math.sqrt(sum(parts)), sum(parts) ** 2 / weights


def _nll_matrix(side: Sequence[Scores], tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stack the per-example NLL of a side as [seeds, examples]."""
    for scores in side:
        if len(scores.nll) != len(tokens) or not np.array_equal(scores.tokens, tokens):
            raise ValueError("the two sides were not scored on the same rows")
    if not tokens.sum() > 0:
        raise ValueError("there are no test rows to compare")
    return np.asarray([scores.nll for scores in side], dtype=np.float64)


def _row_means(
    sides: Sequence[NDArray[np.float64]], tokens: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Draw token-weighted means over resampled rows, the same rows for every side; shape [sides, resamples]."""
    columns = np.stack([tokens, *(side.mean(axis=0) for side in sides)], axis=1)
    out = np.empty((len(sides), resamples))
    count = len(tokens)
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        sums = times @ columns
        out[:, start : start + size] = (sums[:, 1:] / np.maximum(sums[:, :1], 1.0)).T
    return out
