"""A learning-rate range test: the rate rises step by step until the loss diverges; which rate its curve suggests.

Smith, arXiv 1506.01186; the smoothed loss and the rule to stop are those of Howard's `lr_find`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

SMOOTHED_OVER = 1 / 12
"""Share of the ramp over which the loss is smoothed: the same stretch of rates, however many steps there are."""
TIMES_BEST = 4.0
"""A smoothed loss this many times the best has diverged."""
ABOVE_FIRST = 1.3
"""So has one this many times the first: a language model's loss is bounded, and four times may never come."""
LOST = 0.5
"""So has one that gave back this share of what it had gained, where that was a gain."""
GAIN = 0.03
"""Share of the first loss that counts as a gain."""
SETTLING, FEWEST_SETTLING = 1 / 6, 10
"""Share of the ramp, and fewest steps, whose rates are too low to matter: they tell the first loss and its noise."""
NOISE = 4.0
"""A gain is also this many times the deviation of the smoothed loss that chance makes."""
HALF_WIDTH = 1 / 20
"""Share of the ramp to either side over which the slope at a step is taken."""


@dataclass(frozen=True)
class Ramp:
    """Rates that rise exponentially from `low` to `high` in `steps` steps."""

    low: float = 1e-6
    high: float = 1.0
    steps: int = 120

    def factor(self, step: int) -> float:
        """What `low` is multiplied with at a step, counted from 0."""
        return float((self.high / self.low) ** (min(step, self.steps - 1) / (self.steps - 1)))

    @property
    def settling(self) -> int:
        """Steps before which nothing is judged."""
        return max(FEWEST_SETTLING, round(SETTLING * self.steps))

    @property
    def half_width(self) -> int:
        """Steps to either side over which a slope is taken."""
        return max(3, round(HALF_WIDTH * self.steps))

    @property
    def smoothing(self) -> float:
        """Share of the smoothed loss that each step keeps."""
        return 1 - 1 / max(2.0, SMOOTHED_OVER * self.steps)

    def rate(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        return self.low * self.factor(step)


@dataclass(frozen=True)
class Suggestion:
    """A rate, and why that one; None where the curve suggests none, with what to do.

    `steepest` and `lowest` are the rates at which the smoothed loss falls fastest and is lowest.
    """

    rate: float | None
    reason: str
    steepest: float | None = None
    lowest: float | None = None


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
        keep = self.ramp.smoothing
        self._average = keep * self._average + (1 - keep) * loss
        # without the correction the first ones would be drawn towards 0
        now = self._average / (1 - keep ** (step + 1))
        self.smoothed.append(now)
        if step < self.ramp.settling:
            return ""
        best, first = min(self.smoothed[self.ramp.settling :]), self.first
        where = f"at a rate of {rate:.2g} the smoothed loss, {now:.3g}, "
        if now > TIMES_BEST * best:
            return f"{where}is more than {TIMES_BEST:g} times its best, {best:.3g}"
        if now > ABOVE_FIRST * first:
            return f"{where}is more than {ABOVE_FIRST:g} times its first, {first:.3g}"
        if first - best > self.least_gain and now - best > LOST * (first - best):
            return f"{where}has given back half of its fall from {first:.3g} to {best:.3g}"
        return ""

    @property
    def first(self) -> float:
        """The mean loss before any rate could matter."""
        return statistics.fmean(self.losses[: self.ramp.settling])

    @property
    def least_gain(self) -> float:
        """By how much the smoothed loss must fall to have fallen: 3%, and more than noise makes.

        An exponential average that keeps k has sqrt((1 - k) / (1 + k)) of the deviation of what it averages.
        """
        keep, early = self.ramp.smoothing, self.losses[: self.ramp.settling]
        return max(GAIN * self.first, NOISE * statistics.pstdev(early) * math.sqrt((1 - keep) / (1 + keep)))

    @property
    def rates(self) -> list[float]:
        """The rates of the losses."""
        return [self.ramp.rate(step) for step in range(len(self.losses))]

    def suggest(self) -> Suggestion:
        """Suggest a rate: in the middle, on the logarithmic scale, between where the loss falls fastest and its lowest.

        The steepest place alone is cautious and the lowest too high; their middle lay within a factor 1.4 of the best
        rate of a search on the quickstart's models (docs/advice.md).
        """
        width = self.ramp.half_width
        begin, end = self.ramp.settling, len(self.smoothed) - width
        if begin >= end:
            return Suggestion(None, "the loss rose or was lost at once: begin lower (--low)")
        lowest = min(range(begin, len(self.smoothed)), key=self.smoothed.__getitem__)
        if self.first - self.smoothed[lowest] <= self.least_gain:
            return Suggestion(
                None,
                f"the smoothed loss went from {self.first:.3g} to {self.smoothed[lowest]:.3g} at best, which may be "
                "chance: begin lower (--low), take more steps (--steps), or check that the rows are new to the model",
            )
        if lowest == len(self.smoothed) - 1:
            return Suggestion(None, f"the loss still falls at {self.ramp.rate(lowest):.2g}: go on higher (--high)")
        slopes = {
            step: self.smoothed[step + width] - self.smoothed[step - width]
            for step in range(begin, max(begin, min(lowest, end - 1)) + 1)
        }
        steepest = min(slopes, key=slopes.__getitem__)
        fast, low = self.ramp.rate(steepest), self.ramp.rate(lowest)
        return Suggestion(
            math.sqrt(fast * low),
            f"the smoothed loss falls fastest at {fast:.2g} and is lowest, {self.smoothed[lowest]:.3g}, at {low:.2g}: "
            "halfway between them on the logarithmic scale",
            fast,
            low,
        )


def suggest_of_sweep(losses: Mapping[float, float | None]) -> Suggestion:
    """Suggest the rate with the lowest loss of a sweep.

    Args:
        losses: validation loss in nats a token by rate; None where it was no number.
    """
    there = {rate: loss for rate, loss in losses.items() if loss is not None}
    if not there:
        return Suggestion(None, "no rate had a loss that is a number: sweep lower ones")
    best = min(there, key=there.__getitem__)
    reason = f"its validation loss, {there[best]:.4g}, is the lowest of {len(losses)}"
    if len(losses) > 1 and best in (min(losses), max(losses)):
        side = "lower" if best == min(losses) else "higher"
        reason += f"; it lies at the edge of the sweep, and a {side} one may be better"
    return Suggestion(best, reason)
