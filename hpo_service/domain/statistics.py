"""Evidence that one configuration is better than another: paired bootstrap over examples and over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_service.domain.trial import Scores


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of two configurations on the same rows.

    Attributes:
        baseline: token-weighted mean NLL of the baseline over all seeds, in nats.
        candidate: the same for the candidate.
        improvement: baseline - candidate, relative to the baseline, in percent (positive is better).
        low: lower end of the interval of `improvement`, in percent.
        high: upper end, in percent.
        confidence: level of the interval.
        seeds: seeds per configuration (the smaller number where they differ).
        examples: rows compared.
    """

    baseline: float
    candidate: float
    improvement: float
    low: float
    high: float
    confidence: float
    seeds: int
    examples: int

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def sentence(self) -> str:
        """Say in words what was found."""
        interval = f"{self.confidence:.0%} interval {self.low:+.2f}% to {self.high:+.2f}%"
        sample = f"{self.seeds} seeds each, {self.examples} test rows"
        if not self.distinguishable:
            return f"not distinguishable from the default ({self.improvement:+.2f}%, {interval}; {sample})"
        word = "better" if self.improvement > 0 else "WORSE"
        return f"{word} than the default by {abs(self.improvement):.2f}% ({interval}; {sample})"


def compare(
    baseline: Sequence[Scores],
    candidate: Sequence[Scores],
    *,
    confidence: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
) -> Comparison:
    """Compare two configurations by a paired bootstrap that resamples both test rows and seeds.

    Every `Scores` holds the same rows in the same order. A resample draws rows with replacement, once for both
    sides (paired), and seeds with replacement for each side by itself (a seed of one side has no partner), then
    recomputes both token-weighted means. The interval is the percentile interval (Efron and Tibshirani, 1993).

    Raises:
        ValueError: if a side is empty or the rows are not the same.
    """
    if not baseline or not candidate:
        raise ValueError("both sides of a comparison need at least one seed")
    tokens = np.asarray(baseline[0].tokens, dtype=np.float64)
    sides = [_nll_matrix(side, tokens) for side in (baseline, candidate)]
    rng = np.random.default_rng(seed)
    means = [side.sum() / (len(side) * tokens.sum()) for side in sides]
    draws = _improvements(sides[0], sides[1], tokens, rng, resamples)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Comparison(
        baseline=float(means[0]),
        candidate=float(means[1]),
        improvement=float(100 * (means[0] - means[1]) / means[0]) if means[0] else 0.0,
        low=float(low),
        high=float(high),
        confidence=confidence,
        seeds=min(len(baseline), len(candidate)),
        examples=len(tokens),
    )


def _nll_matrix(side: Sequence[Scores], tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stack the per-example NLL of a side as [seeds, examples]."""
    for scores in side:
        if len(scores.nll) != len(tokens) or not np.array_equal(scores.tokens, tokens):
            raise ValueError("the two sides were not scored on the same rows")
    if not tokens.sum() > 0:
        raise ValueError("there are no test rows to compare")
    return np.asarray([scores.nll for scores in side], dtype=np.float64)


def _improvements(
    baseline: NDArray[np.float64],
    candidate: NDArray[np.float64],
    tokens: NDArray[np.float64],
    rng: np.random.Generator,
    resamples: int,
) -> NDArray[np.float64]:
    """Draw relative improvements in percent, shape [resamples]."""
    out = np.empty(resamples)
    for i in range(resamples):
        rows = rng.integers(0, len(tokens), len(tokens))
        total = tokens[rows].sum()
        a, b = (
            side[rng.integers(0, len(side), len(side))][:, rows].sum() / (len(side) * total)
            for side in (baseline, candidate)
        )
        out[i] = 100 * (a - b) / a if a else 0.0
    return out
