"""What measured memory teaches: how estimates are corrected, and what the sampler hears of a trial that did not fit."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from hpo_service.domain.memory.fit import LEAST_OVER_GB
from hpo_service.domain.trial.facts import MemoryFacts, RunFacts

# A measured peak outside these multiples of its estimate says that something else went wrong.
PLAUSIBLE = (0.5, 2.0)


def measured_correction(trials: Iterable[RunFacts]) -> float:
    """The median of measured peak over estimate, from the facts of trials that ran on a GPU; 1 where there is none.

    Both are what torch counts as allocated. On a CPU the peak is that of the whole process and says nothing.
    """
    ratios = [ratio for facts in trials if (ratio := _ratio(facts)) is not None]
    return min(PLAUSIBLE[1], max(PLAUSIBLE[0], statistics.median(ratios))) if ratios else 1.0


def _ratio(facts: RunFacts) -> float | None:
    peak, thought = facts.memory.peak_gb, facts.memory.estimate_gb
    if facts.environment.device in (None, "cpu") or peak is None or thought is None:
        return None
    return peak / thought if peak > 0 and thought > 0 else None


def vram_over_gb(memory: MemoryFacts, *, infeasible: bool) -> float | None:
    """By how much a trial was too large for its device, in GB: below 0 by how much it was not, None where not known.

    Of an infeasible trial it is above 0, 1 where it does not tell.
    """
    over = memory.over_gb
    if over is None or not math.isfinite(over):
        return 1.0 if infeasible else None
    return max(LEAST_OVER_GB, over) if infeasible else min(0.0, over)
