"""How a study file says that configurations are proposed and losers stopped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.validation import one_of, rising_fractions

LARGEST_SEED = 2**32 - 1
"""NumPy's seeds have 32 bits."""


class BudgetSpec(Section):
    """When the search stage stops admitting trials: whichever limit is met first."""

    trials: int = Field(default=20, ge=1, le=100_000, description="Search trials, exactly.")
    gpu_hours: float | None = Field(default=None, gt=0, description="Device hours of the search stage.")


class SearchSpec(Section):
    """How configurations are proposed and losers are stopped."""

    sampler: Literal["gp", "tpe", "random", "grid", "qmc"] = Field(default="gp", description="Who proposes.")
    pruner: Literal["halving", "percentile", "median", "none"] = Field(
        default="halving", description="Who stops losers early; halving keeps the better half at each rung."
    )
    rungs: list[float] = Field(
        default=[0.25, 0.5], description="Fractions of the run at which halving compares trials."
    )
    startup_trials: int = Field(
        default=5, ge=0, description="Trials that fill the space before the sampler's model is asked."
    )
    enqueue: list[dict[str, ParameterValue]] = Field(
        default=[],
        max_length=1000,
        description="Configurations tried first, after the default; what one leaves out is the default's.",
    )
    share: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the training rows that proxy and coarse runs are trained on."
    )
    seed: int = Field(default=42, ge=0, description="Seed of the sampler and of every search trial.")
    parallel_per_gpu: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="auto",
        description="LoRA trials trained side by side on one device; auto measures how many are worth it, up to 8, "
        "and all workers together a quarter of the search budget. 1 is one after another.",
    )
    direction: Annotated[Direction, one_of([d.value for d in Direction], Direction)] = Field(
        default=Direction.MINIMIZE, description="maximize is for objectives of your own; losses are minimised."
    )
    budget: BudgetSpec = Field(default_factory=BudgetSpec, description="When to stop.")

    @field_validator("rungs")
    @classmethod
    def _rungs_rise(cls, rungs: list[float]) -> list[float]:
        return rising_fractions(rungs)
