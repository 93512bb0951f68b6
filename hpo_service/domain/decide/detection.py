"""Which differences a comparison can see: what they vary by, the smallest one, and the seeds that one would take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

POWER = 0.8
"""How often a difference of the smallest size is to be seen: 4 times in 5, as is usual (Cohen, 1988)."""
MOST_SEEDS = 100
"""Seeds of a configuration beyond which nobody asks: the most that a study file may give."""


def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution, for probabilities in [0.5, 1) and `freedom` of 1 or more.

    Raises:
        ValueError: outside those bounds.
    """
    from scipy.special import stdtrit  # here, because most commands compare nothing and it takes a third of a second

    if not (0.5 <= probability < 1 and freedom >= 1):
        raise ValueError(f"no t quantile at {probability} with {freedom} degrees of freedom")
    return float(stdtrit(freedom, probability))


@dataclass(frozen=True)
class Spread:
    """What a difference of two means varies by, in the unit of the difference.

    Attributes:
        seeds: seeds of each side.
        seed_error: standard error of the difference over seeds; it falls with the root of their number.
        seed_freedom: its degrees of freedom.
        row_error: standard error over test rows, the same for any number of seeds; 0 where no rows were compared.
        row_freedom: its degrees of freedom.
    """

    seeds: int
    seed_error: float
    seed_freedom: float
    row_error: float = 0.0
    row_freedom: float = math.inf

    def scaled(self, factor: float) -> Spread:
        """Return it in another unit."""
        return replace(self, seed_error=factor * self.seed_error, row_error=factor * self.row_error)

    def smallest(self, confidence: float, seeds: int | None = None) -> float:
        """Return the smallest difference that an interval of this level excludes 0 for, 4 times in 5.

        (t(1 - alpha/2) + t(power)) x standard error (Bloom, 1995, "Minimum detectable effects"), where the errors over
        seeds and rows add up in squares, with the degrees of freedom of Satterthwaite (1946).

        Args:
            confidence: level of the interval.
            seeds: with so many seeds a side, 2 or more; by default with those that there are.
        """
        number = self.seeds if seeds is None else seeds
        by_seeds = self.seed_error * math.sqrt(self.seeds / number)
        freedom = max(1.0, self.seed_freedom * (number - 1) / (self.seeds - 1))
        squares = by_seeds**2 + self.row_error**2
        if not squares:
            return 0.0
        doubt = by_seeds**4 / freedom + self.row_error**4 / self.row_freedom
        freedom = max(1.0, squares**2 / doubt) if doubt else math.inf
        return (t_quantile(0.5 + confidence / 2, freedom) + t_quantile(POWER, freedom)) * math.sqrt(squares)

    def seeds_to_see(self, difference: float, confidence: float) -> int | None:
        """Return the fewest seeds a side with which this difference would be seen; None where 100 are too few."""
        enough = (n for n in range(2, MOST_SEEDS + 1) if self.smallest(confidence, n) <= abs(difference))
        return next(enough, None)


def spread_of_seeds(relative_deviation: float, seeds: int) -> Spread:
    """Return the spread of a comparison that is to come, from the standard deviation of runs of one configuration.

    Args:
        relative_deviation: of the values of runs that differ in their seed, in the unit of the difference.
        seeds: of each side, 2 or more.
    """
    return Spread(seeds, relative_deviation * math.sqrt(2 / seeds), 2.0 * (seeds - 1))


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the standard deviation within groups, each relative to the size of its own mean; None where none has two.

    The variances are pooled, each weighing as much as its degrees of freedom.
    """
    squares, freedom = 0.0, 0
    for group in groups:
        mean = math.fsum(group) / len(group) if group else 0.0
        if len(group) < 2 or not mean:
            continue
        squares += sum((value / mean - 1) ** 2 for value in group)
        freedom += len(group) - 1
    return math.sqrt(squares / freedom) if freedom else None
