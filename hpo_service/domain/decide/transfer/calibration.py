"""What earlier studies found between a small and a large model: the factor that the best learning rate changed by."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

PRIOR = 0.5
"""Exponent of width that is believed before anything was measured (muA, arXiv 2602.06204)."""
STEEPEST = 1.5
"""Exponents beyond this, up or down, say that something else than width was measured."""


@dataclass(frozen=True)
class Calibration:
    """One finished study's account.

    Attributes:
        study: its name.
        family: of both its models.
        small: hidden size of the model searched on.
        large: that of the target.
        factor: best learning rate on the target over that of the configuration it came from, without what the rank did.
    """

    study: str
    family: str
    small: int
    large: int
    factor: float

    @property
    def exponent(self) -> float:
        """E of factor = (small/large)^e; only for models of different widths."""
        return math.log(self.factor) / math.log(self.small / self.large)


def calibrated_exponent(found: Sequence[Calibration], family: str) -> tuple[float, str]:
    """Return the exponent of width that earlier studies of a family tell, and which they were.

    The mean of what they found and, as one study more, of what was believed before: a bracket is coarse, and one study
    alone must not carry the next one off.
    """
    usable = [each for each in found if each.family == family and each.small != each.large and each.factor > 0]
    exponents = [min(STEEPEST, max(-STEEPEST, each.exponent)) for each in usable]
    if not exponents:
        return PRIOR, f"no earlier study of {family} to learn from"
    names = ", ".join(each.study for each in usable)
    return statistics.fmean([PRIOR, *exponents]), f"learned from {names}"
