"""Evidence that one configuration is better than another: paired bootstrap over rows, Student's t over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpo_service.domain.decide.detection import MOST_SEEDS, Spread, t_quantile
from hpo_service.domain.decide.measure import Unit
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.scores import Scores

_CHUNK = 4_000_000  # numbers held at once while resampling: about 32 MB
FEWEST_ROWS = 5
"""Test rows without which there is no interval: below, even a widened one covers the truth too rarely."""
MOST_LEFT_OUT = 0.1
"""Share of test rows that may be left out because a run has no finite loss there; with more nothing is compared."""
POINTS = 100.0
"""Points of a whole: what differences of metrics between 0 and 1 are told in."""
_FULL = 100.0  # an improvement of more than this many percent says that the baseline is no measure for it
_NOTHING = 1e-6  # a baseline this small, by itself or beside the candidate, is nothing to give a percentage of


@dataclass(frozen=True)
class Comparison:
    """A comparison of a configuration with the baseline.

    Attributes:
        baseline: mean of the baseline over all seeds; of NLLs weighted by tokens, in nats.
        candidate: the same for the candidate.
        improvement: how much better the candidate is, in `unit`; positive is better also where the value is maximised.
        low: lower end of the interval of `improvement`; None where one seed says nothing about the spread.
        high: upper end, likewise.
        confidence: level of the interval.
        seeds: seeds per configuration (the smaller number where they differ).
        examples: rows compared; 0 where only the final values of the seeds were compared.
        left_out: rows that were not compared because a run has no finite loss there.
        unit: of `improvement` and its interval: `%` of the baseline, `points`, which are hundredths, or nothing: the
            difference itself, also where the baseline is too near 0 to divide by.
        spread: what the width of the interval comes from, in that unit; None where there is no interval.
        measure: what was compared, where a sentence is to name it with both values; empty for losses and values of the
            user's own.
    """

    baseline: float
    candidate: float
    improvement: float
    low: float | None
    high: float | None
    confidence: float
    seeds: int
    examples: int = 0
    unit: Unit = "%"
    left_out: int = 0
    spread: Spread | None = None
    measure: str = ""

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
        return f"{self.signed(self.low)} to {self.signed(self.high)}"

    @property
    def smallest(self) -> float | None:
        """The smallest difference that this comparison sees 4 times in 5; None where there is no interval."""
        return None if self.spread is None else self.spread.smallest(self.confidence)

    @property
    def seeds_to_see(self) -> int | None:
        """Seeds a side that it would take to see the difference that was found; None where 100 are too few."""
        return None if self.spread is None else self.spread.seeds_to_see(self.improvement, self.confidence)

    def sentence(self, run_hours: float | None = None) -> str:
        """Say in words what was found, and of what was not, what it would take.

        Args:
            run_hours: device hours that one run of a seed takes, where that is known.
        """
        sample = f"{self.seeds} seed{'s' if self.seeds > 1 else ''} each"
        sample += f", {self.examples} test rows" if self.examples else ""
        spread = f"no interval: {self._why_none()}" if self.low is None else f"{self.level} {self.interval}"
        if not self.distinguishable:
            named = f" in {self.measure}, {self._both}" if self.measure else ""
            found = f"not distinguishable from the default{named} ({self.signed(self.improvement)}, {spread}; {sample})"
            return f"{found}{self._sight(run_hours)}"
        word = "better" if self.improvement > 0 else "WORSE"
        by = self.written(f"{abs(self.improvement):.2f}")
        if self.measure:
            by += f" {'of' if self.unit else 'in'} {self.measure}, {self._both}"
        return f"{word} than the default by {by} ({spread}; {sample})"

    @property
    def _both(self) -> str:
        return f"{self.candidate:.4g} against {self.baseline:.4g}"

    def signed(self, value: float) -> str:
        """Write a difference with its sign and unit, e.g. `+1.00%` or `-2.50 points`."""
        return self.written(f"{value:+.2f}")

    def written(self, number: str) -> str:
        """Put the unit behind a number that is written already."""
        return f"{number}{self.unit if self.unit == '%' else f' {self.unit}'.rstrip()}"

    def _sight(self, run_hours: float | None) -> str:
        """Say which difference would have been seen, and what it takes to see the one that was found."""
        if self.spread is None or not self.smallest:
            return ""
        smallest = self.written(f"{self.smallest:.2g}")
        seen = f"; with {self.seeds} seeds a difference of {smallest} is seen 4 times in 5"
        needed, missed = self.seeds_to_see, self.written(f"{abs(self.improvement):.2g}")
        if needed is None:
            rows = " and more test rows" if self.spread.row_error > self.spread.seed_error else ""
            return f"{seen}, one of {missed} takes more than {MOST_SEEDS} seeds each{rows}"
        if needed <= self.seeds:
            return seen
        runs = 2 * (needed - self.seeds)
        hours = "" if run_hours is None else f", about {runs * run_hours:.2g} device-hours"
        return f"{seen}, and one of {missed} with {needed}: {runs} more runs{hours}"

    def _why_none(self) -> str:
        if self.seeds < 2:
            return "it takes two seeds of each"
        if self.examples:
            return f"too few test rows, it takes {FEWEST_ROWS}"
        return "the seeds made no difference; are they used?"


def compare(
    baseline: Sequence[Scores],
    candidate: Sequence[Scores],
    *,
    confidence: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
    direction: Direction = Direction.MINIMIZE,
    unit: Unit = "%",
    measure: str = "",
) -> Comparison:
    """Compare two configurations on the same test rows, over rows and seeds.

    Every `Scores` holds the same rows in the same order. A resample draws rows with replacement, once for both
    sides (paired), and recomputes both token-weighted means; the interval is the percentile interval (Efron and
    Tibshirani, 1993). Of few rows it is too narrow by construction, so the resamples' deviations are widened to
    those of Student's t (`widening`; Hesterberg, 2015, "What teachers should know about the bootstrap"). Two or three
    seeds are too few to resample, so each resample adds what the seeds' own means vary by: a draw of Student's t with
    Welch's standard error and degrees of freedom. A single seed on a side says nothing about the spread, nor do fewer
    rows than `FEWEST_ROWS`: then there is no interval. Rows where a run has no finite loss are left out of both sides.

    Args:
        baseline: a `Scores` for each seed.
        candidate: likewise.
        confidence: level of the interval.
        resamples: how many are drawn.
        seed: of the draws.
        direction: which scores are better.
        unit: what the improvement is given in.
        measure: what it is called in sentences, where it is not a loss.

    Raises:
        ValueError: if a side is empty, the rows are not the same, or too many have no finite loss.
    """
    if not baseline or not candidate:
        raise ValueError("both sides of a comparison need at least one seed")
    tokens = np.asarray(baseline[0].tokens, dtype=np.float64)
    sides = [_nll_matrix(side, tokens) for side in (baseline, candidate)]
    sides, tokens, left_out = _measured_rows(sides, tokens)
    per_seed = [side.sum(axis=1) / tokens.sum() for side in sides]
    means = [float(seeds.mean()) for seeds in per_seed]
    found = Comparison(
        baseline=means[0],
        candidate=means[1],
        improvement=direction.improvement(*means),
        low=None,
        high=None,
        confidence=confidence,
        seeds=min(len(side) for side in sides),
        examples=len(tokens),
        unit="",
        left_out=left_out,
        measure=measure,
    )
    draws = np.empty((0, 2))
    if found.seeds > 1 and found.examples >= FEWEST_ROWS:
        draws, spread = _draws(sides, per_seed, tokens, resamples, seed, confidence)
        found = replace(found, spread=spread)
    better = draws * direction.signed(1.0)
    if unit == "points":
        return _scaled(_with_interval(found, found.improvement, better[:, 0], ""), POINTS, "points")
    percent = _in_percent(found, better) if unit == "%" else None
    return percent or _with_interval(found, found.improvement, better[:, 0], "")


def _in_percent(found: Comparison, draws: NDArray[np.float64]) -> Comparison | None:
    """Give the improvement in percent of the baseline; None where the baseline is no measure for it.

    Args:
        found: with the improvement as a difference.
        draws: shape [resamples, 2]: the difference, and the same as a share of the drawn baseline.
    """
    if abs(found.baseline) <= max(_NOTHING, _NOTHING * abs(found.candidate)):
        return None
    factor = 100 / abs(found.baseline)
    percent = _with_interval(found, factor * found.improvement, 100 * draws[:, 1], "%")
    percent = replace(percent, spread=found.spread and found.spread.scaled(factor))
    ends = [percent.improvement, percent.low or 0.0, percent.high or 0.0]
    return percent if max(map(abs, ends)) <= _FULL else None


def _with_interval(found: Comparison, improvement: float, draws: NDArray[np.float64], unit: Unit) -> Comparison:
    low = high = None
    if len(draws):
        tail = 100 * (1 - found.confidence) / 2
        low, high = (float(end) for end in np.percentile(draws, [tail, 100 - tail]))
    return replace(found, improvement=improvement, low=low, high=high, unit=unit)


def compare_values(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    confidence: float = 0.95,
    direction: Direction = Direction.MINIMIZE,
    unit: Unit = "%",
    measure: str = "",
) -> Comparison:
    """Compare the final values of two configurations' seeds, for what has no per-example scores.

    Welch's t interval of the difference of the means (Welch, 1947); in percent it is relative to the size of the
    baseline's mean, which is taken as it is. A single seed on a side gives no interval, nor do seeds that made no
    difference on either side: they are one measurement, written down several times.

    Raises:
        ValueError: if a side is empty or a value is not finite.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (baseline, candidate)]
    if not all(len(side) and np.isfinite(side).all() for side in sides):
        raise ValueError("both sides of a comparison need at least one finite value")
    means = [float(side.mean()) for side in sides]
    improvement = direction.improvement(*means)
    found = Comparison(
        baseline=means[0],
        candidate=means[1],
        improvement=improvement,
        low=None,
        high=None,
        confidence=confidence,
        seeds=min(len(side) for side in sides),
        unit="",
        measure=measure,
    )
    if found.seeds > 1:
        error, freedom = _welch(*sides)
        if error:
            half = error * t_quantile(0.5 + confidence / 2, freedom)
            spread = Spread(found.seeds, error, freedom)
            found = replace(found, low=improvement - half, high=improvement + half, spread=spread)
    if unit == "points":
        return _scaled(found, POINTS, unit)
    return _values_in_percent(found) if unit == "%" else found


def _values_in_percent(found: Comparison) -> Comparison:
    """Give everything in percent of the baseline, unless that is next to nothing or a percentage would pass 100."""
    if abs(found.baseline) <= max(_NOTHING, _NOTHING * abs(found.candidate)):
        return found
    percent = _scaled(found, 100.0 / abs(found.baseline), "%")
    ends = [percent.improvement, percent.low or 0.0, percent.high or 0.0]
    return percent if max(map(abs, ends)) <= _FULL else found


def _scaled(found: Comparison, factor: float, unit: Unit) -> Comparison:
    """Give a difference and its interval in another unit."""
    low, high = (None if end is None else factor * end for end in (found.low, found.high))
    spread = found.spread and found.spread.scaled(factor)
    return replace(found, improvement=factor * found.improvement, low=low, high=high, unit=unit, spread=spread)


def widening(rows: float, confidence: float) -> float:
    """Return by how much a percentile bootstrap over so many rows is too narrow: t(n-1)/z x sqrt(n/(n-1)).

    Args:
        rows: number of rows above 1; where rows weigh differently, the effective number.
        confidence: level of the interval.
    """
    from scipy.special import ndtri

    tail = 0.5 + confidence / 2
    return t_quantile(tail, max(1.0, rows - 1)) / float(ndtri(tail)) * math.sqrt(rows / (rows - 1))


def _draws(
    sides: Sequence[NDArray[np.float64]],
    per_seed: Sequence[NDArray[np.float64]],
    tokens: NDArray[np.float64],
    resamples: int,
    seed: int,
    confidence: float,
) -> tuple[NDArray[np.float64], Spread]:
    """Draw differences, and the same as shares of the drawn baseline; shape [resamples, 2]. Also what they vary by."""
    rng = np.random.default_rng(seed)
    baseline, candidate = _row_means(sides, tokens, rng, resamples)
    error, freedom = _welch(*per_seed)
    noise = error * rng.standard_t(freedom, resamples) if error else np.zeros(resamples)
    rows = float(tokens.sum() ** 2 / (tokens**2).sum())
    wider = widening(rows, confidence)

    def drawn(scale: NDArray[np.float64], centre: float) -> NDArray[np.float64]:
        draws: NDArray[np.float64] = centre + ((baseline - candidate) / scale - centre) * wider + noise / scale
        return draws

    before = float(per_seed[0].mean())
    difference = before - float(per_seed[1].mean())
    share = drawn(np.maximum(baseline, _NOTHING), difference / max(before, _NOTHING))
    row_error = float((baseline - candidate).std()) * math.sqrt(rows / (rows - 1))
    spread = Spread(min(map(len, per_seed)), error, freedom, row_error, max(1.0, rows - 1))
    return np.stack([drawn(np.ones(resamples), difference), share], axis=1), spread


def _welch(baseline: NDArray[np.float64], candidate: NDArray[np.float64]) -> tuple[float, float]:
    """Return standard error and degrees of freedom of the difference of two means; (0, inf) where nothing varies.

    Both sides need two values at least.
    """
    # the mean of equal values may miss them by a rounding, which is no spread
    parts = [float(side.var(ddof=1)) / len(side) if np.ptp(side) else 0.0 for side in (baseline, candidate)]
    weights = sum(part**2 / (len(side) - 1) for part, side in zip(parts, (baseline, candidate), strict=True))
    if not weights:
        return 0.0, math.inf
    return math.sqrt(sum(parts)), sum(parts) ** 2 / weights


def _nll_matrix(side: Sequence[Scores], tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stack the per-example NLL of a side as [seeds, examples]."""
    for scores in side:
        if len(scores.nll) != len(tokens) or not np.array_equal(scores.tokens, tokens):
            raise ValueError("the two sides were not scored on the same rows")
    return np.asarray([scores.nll for scores in side], dtype=np.float64)


def _measured_rows(
    sides: Sequence[NDArray[np.float64]], tokens: NDArray[np.float64]
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64], int]:
    """Leave out rows where any run has no finite loss, and count them; shapes as given, with fewer columns.

    Raises:
        ValueError: they are too many for a comparison, or all that had something to learn.
    """
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(np.concatenate(sides)).all(axis=0))
    left_out = int(len(finite) - finite.sum())
    if left_out > MOST_LEFT_OUT * len(finite):
        raise ValueError(f"{left_out} of {len(finite)} test rows have no finite loss in some run")
    if not tokens[finite].sum() > 0:
        raise ValueError("there are no test rows to compare")
    return [side[:, finite] for side in sides], tokens[finite], left_out


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
