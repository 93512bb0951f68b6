"""A learning-rate range test: the rate rises step by step until the loss diverges; which rate its curve suggests.

Smith, arXiv 1506.01186; the smoothed loss and the rule to stop are those of Howard's `lr_find`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SMOOTHING = 0.9
"""Share of the smoothed loss that each step keeps."""
TIMES_BEST = 4.0
"""A smoothed loss this many times the best has diverged."""
ABOVE_FIRST = 1.3
"""So has one this many times the first: a language model's loss is bounded, and four times may never come."""
SETTLED = 10
"""Steps before which nothing is judged."""
CAUTION = 1.0
"""The suggestion as a share of the rate at which the loss falls fastest."""


@dataclass(frozen=True)
class Ramp:
    """Rates that rise exponentially from `low` to `high` in `steps` steps."""

    low: float = 1e-6
    high: float = 1.0
    steps: int = 120

    def factor(self, step: int) -> float:
        """What `low` is multiplied with at a step, counted from 0."""
        return float((self.high / self.low) ** (min(step, self.steps - 1) / (self.steps - 1)))

    def rate(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        return self.low * self.factor(step)


@dataclass(frozen=True)
class Suggestion:
    """A rate, and why that one; None where the curve suggests none."""

    rate: float | None
    reason: str


@dataclass
class RangeTest:
    """The losses of a ramp as they come in: smoothed, judged, and what they suggest."""

    ramp: Ramp
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)
    _average: float = 0.0

    def add(self, loss: float) -> str:
        """Take the loss of a step, in nats a token; return why the test ends here, or nothing."""
        step, rate = len(self.losses), self.ramp.rate(len(self.losses))
        if not math.isfinite(loss):
            return f"the loss became {loss} at a rate of {rate:.2g}"
        self.losses.append(loss)
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        # without the correction the first ones would be drawn towards 0
        now = self._average / (1 - SMOOTHING ** (step + 1))
        self.smoothed.append(now)
        if step < SETTLED:
            return ""
        best, first = min(self.smoothed), self.smoothed[SETTLED // 2]
        if now > TIMES_BEST * best:
            return f"at a rate of {rate:.2g} the smoothed loss is more than {TIMES_BEST:g} times its best, {best:.3g}"
        if now > ABOVE_FIRST * first:
            return (
                f"at a rate of {rate:.2g} the smoothed loss is more than {ABOVE_FIRST:g} times its first, {first:.3g}"
            )
        return ""

    @property
    def rates(self) -> list[float]:
        """The rates of the losses."""
        return [self.ramp.rate(step) for step in range(len(self.losses))]
