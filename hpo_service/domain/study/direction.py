"""Which values are better: the lower ones or the higher ones. Defined here and nowhere else."""

from __future__ import annotations

import math
from enum import StrEnum


class Direction(StrEnum):
    """What a study does with its values, by the name that its file and Optuna use."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self is Direction.MAXIMIZE

    @property
    def superlative(self) -> str:
        """What the best of several values is: the lowest or the highest."""
        return "highest" if self.maximize else "lowest"

    @property
    def comparative(self) -> str:
        """What the better of two values is: the lower or the higher."""
        return "higher" if self.maximize else "lower"

    def badness(self, value: float) -> float:
        """Return the value so that smaller is better, fit to sort by; what is not a number is the worst there is."""
        return math.inf if math.isnan(value) else self.signed(value)

    def signed(self, value: float) -> float:
        """Turn a value into a badness, and a badness back into the value."""
        return -value if self.maximize else value

    def improvement(self, before: float, after: float) -> float:
        """By how much the second value is better than the first; below 0 where it is worse."""
        return self.signed(before) - self.signed(after)
