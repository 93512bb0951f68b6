"""Which effect the confirm stage of a study can see, told before it runs; this file reads no database."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hpo_service.domain.decide.detection import spread_of_seeds
from hpo_service.domain.decide.measure import Unit, measure_of
from hpo_service.domain.study.spec import StudySpec

ASSUMED_SEEDS = 0.16
"""Standard deviation from seed to seed, in percent of the value: that of the quickstart's winner (its default's: 0.01).
Repeated runs of large models differ by about 0.02 (sweeps of tinker-cookbook)."""
ASSUMED_ROWS = 8.5
"""Standard deviation over test rows of the difference between two configurations, in percent: 0.585 x sqrt(212) in the
quickstart, whose winner is 15% better; two that are more alike differ less from row to row."""


@dataclass(frozen=True)
class Sensitivity:
    """What a confirm stage can see.

    Attributes:
        smallest: the smallest difference from the default that is seen 4 times in 5, in `unit`.
        seeds: of each configuration.
        why: what it follows from.
        measured: whether earlier studies measured it; else it is assumed.
        unit: percent of the value, points of a metric, or what a metric of the user's own is in.
    """

    smallest: float
    seeds: int
    why: str
    measured: bool
    unit: Unit = "%"

    def sentence(self) -> str:
        """Say it in words."""
        unit = self.unit if self.unit == "%" else f" {self.unit}".rstrip()
        seen = f"a difference of {self.smallest:.2g}{unit} from the default is seen 4 times in 5"
        return f"with {self.seeds} seeds each {seen} ({self.why})"


def compares(spec: StudySpec) -> bool:
    """Whether the study's confirm stage has a default to compare with."""
    return spec.confirm.enabled and (spec.objective is None or spec.confirm.default is not None)


def assumed(spec: StudySpec) -> Sensitivity | None:
    """Tell what a confirm stage can see where nothing was measured: what is assumed is said.

    Nothing is assumed of metrics of answers, which differ in how coarse they are.
    """
    if measure_of(spec).metric:
        return None
    seeds, rows = spec.confirm.seeds, _test_rows(spec)
    spread = spread_of_seeds(ASSUMED_SEEDS, seeds)
    said = f"assumed, since no earlier study here has confirmed with the same: seeds differ by {ASSUMED_SEEDS:g}%"
    if rows:
        spread = replace(spread, row_error=ASSUMED_ROWS / math.sqrt(rows), row_freedom=max(1.0, rows - 1.0))
        said += f" and the difference by {ASSUMED_ROWS:g}% from row to row, as in the quickstart, of {rows} test rows"
    elif spec.data is not None:
        said += " as in the quickstart, and test rows, of which the file does not say how many, add to it"
    else:
        said += " as in the quickstart"
    return Sensitivity(spread.smallest(spec.confirm.confidence), seeds, said, measured=False)


def _test_rows(spec: StudySpec) -> int:
    """About how many test rows there are, where the study file says how many rows it takes; else 0."""
    limit = spec.data.max_rows if spec.data is not None else None
    return round(limit * spec.data.split.test) if spec.data is not None and limit else 0
