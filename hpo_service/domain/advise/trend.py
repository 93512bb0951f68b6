"""How a noisy curve moves: a straight line through some of its points, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Trend:
    """A straight line through points at equal distances, by least squares.

    Attributes:
        level: mean of the points.
        fall: by how much the line falls from the first to the last of them.
        error: standard error of that fall.
        scatter: standard deviation of the points around the line.
    """

    level: float
    fall: float
    error: float
    scatter: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Trend:
        """Fit a line to three points or more."""
        count = len(values)
        level, middle = statistics.fmean(values), (count - 1) / 2
        spread = sum((place - middle) ** 2 for place in range(count))
        slope = sum((place - middle) * (value - level) for place, value in enumerate(values)) / spread
        rest = sum((value - level - slope * (place - middle)) ** 2 for place, value in enumerate(values))
        scatter = math.sqrt(rest / (count - 2))
        return cls(level, -slope * (count - 1), scatter / math.sqrt(spread) * (count - 1), scatter)
