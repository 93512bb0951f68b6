"""When a training loss has blown up: its last steps lie far above its first ones, and more of them than by chance."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

# A base that already knows the data starts near 0, where three times is noise; in nats.
LEAST_LEVEL = 0.1
# First steps by which the later ones are judged.
FIRST_STEPS = 64


@dataclass(frozen=True)
class Rule:
    """A run is lost when the middle of its last `window` steps is more than `times` that of its first ones.

    After t steps a rank test must say that chance does this with a probability below `chance` / t^2: over all steps of
    however long a run the chances of a rule add up to less than a tenth of `chance`, whatever distribution the losses
    have, and so for however few rows a step has. Ten times the level is rare in itself, where no test is needed.
    """

    window: int
    times: float
    chance: float = 0.001


RULES = (Rule(5, 10.0, chance=0.01), Rule(8, 3.0), Rule(16, 3.0), Rule(32, 3.0))
"""From the most sudden to the noisiest rise; tried on simulated runs by `benchmarks/divergence.py`."""

LAST_STEPS = max(rule.window for rule in RULES)


def blown_up(first: Sequence[float], last: Sequence[float], steps: int) -> str:
    """Why a run is lost by its training losses, or nothing.

    Args:
        first: losses of its first steps, `FIRST_STEPS` or all there are.
        last: losses of its last steps, `LAST_STEPS` or all there are.
        steps: optimizer steps that it has made.
    """
    for rule in RULES:
        before, after = first[: max(0, steps - rule.window)], last[-rule.window :]
        if not before:
            break
        level, now = max(statistics.median(before), LEAST_LEVEL), statistics.median(after)
        if now > rule.times * level and _beyond(before, after, rule.chance / steps**2):
            return (
                f"diverged: the training loss of the last {rule.window} steps, {now:.4g}, is more than "
                f"{rule.times:g} times that of the first {len(before)}, {level:.4g}"
            )
    return ""


def _beyond(before: Sequence[float], after: Sequence[float], limit: float) -> bool:
    # however far above, few are never beyond chance: what is cheap to say is said first
    return 1 / math.comb(len(before) + len(after), len(after)) < limit and chance(before, after) < limit


def chance(before: Sequence[float], after: Sequence[float]) -> float:
    """Probability that losses of one distribution, whatever it is, come to lie as far above others as these do.

    The exact rank test of Mann and Whitney, 1947, one-sided; equal losses count as not above.
    """
    earlier = sorted(before)
    above = sum(bisect_left(earlier, each) for each in after)
    return _tail(len(before), len(after))[above]


@cache
def _tail(before: int, after: int) -> list[float]:
    """Probability of each number of pairs or more, from 0 to all: sums of the coefficients of a Gaussian binomial."""
    counts = [1] + [0] * (before * after)
    for each in range(1, after + 1):
        for pairs in range(len(counts) - 1, before + each - 1, -1):
            counts[pairs] -= counts[pairs - before - each]
        for pairs in range(each, len(counts)):
            counts[pairs] += counts[pairs - each]
    orders, beyond, tail = math.comb(before + after, after), 0, []
    for count in reversed(counts):
        beyond += count
        tail.append(beyond / orders)
    return tail[::-1]
