"""Which effect the confirm stage of a study can see, told before it runs; this file reads no database."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.decide.detection import spread_of_seeds
from hpo_service.domain.study.spec import StudySpec

ASSUMED_PERCENT = 0.4
"""Standard deviation from seed to seed, in percent of the value, that is assumed where nothing was measured."""
ASSUMED_WHY = (
    "assumed, since no earlier study of this database has confirmed with this model: runs differ by "
    f"{ASSUMED_PERCENT:g}% from seed to seed, as the quickstart's do (those of large models by as little as 0.02%), "
    "and test rows add nothing"
)


@dataclass(frozen=True)
class Sensitivity:
    """What a confirm stage can see.

    Attributes:
        smallest: the smallest difference from the default that is seen 4 times in 5, in percent.
        seeds: of each configuration.
        why: what it follows from.
        measured: whether earlier studies measured it; else it is assumed.
    """

    smallest: float
    seeds: int
    why: str
    measured: bool

    def sentence(self) -> str:
        """Say it in words."""
        return (
            f"with {self.seeds} seeds each a difference of {self.smallest:.2g}% from the default is seen 4 times in 5 "
            f"({self.why})"
        )


def compares(spec: StudySpec) -> bool:
    """Whether the study's confirm stage has a default to compare with."""
    return spec.confirm.enabled and (spec.objective is None or spec.confirm.default is not None)


def assumed(spec: StudySpec) -> Sensitivity:
    """Tell what a confirm stage can see where nothing was measured: what is assumed is said."""
    seeds = spec.confirm.seeds
    smallest = spread_of_seeds(ASSUMED_PERCENT, seeds).smallest(spec.confirm.confidence)
    return Sensitivity(smallest, seeds, ASSUMED_WHY, measured=False)
