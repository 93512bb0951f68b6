"""How a study file says that configurations are proposed and losers stopped."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.methods import with_modules_as_text
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.validation import one_of, refusal, rising_fractions

LARGEST_SEED = 2**32 - 1
"""NumPy's seeds have 32 bits."""
LOSS = "loss"
"""The goal that every search has: what is measured of a trial, also by an objective of the user's own."""
COSTS = ("seconds", "memory_gb", "adapter_mb")
"""What may be limited, and what a search may have as further goals; smaller is better."""
COMPARING = ("early_exit", "halving", "successive_halving", "hyperband", "percentile", "median")
"""Pruners that stop a trial because others measure better values."""


class BudgetSpec(Section):
    """When the search stage stops admitting trials: whichever limit is met first."""

    trials: int = Field(default=20, ge=1, le=100_000, description="Search trials, exactly.")
    gpu_hours: float | None = Field(default=None, gt=0, description="Device hours of the search stage.")


class ConstraintsSpec(Section):
    """What a trial may cost at most; one that costs more is never chosen."""

    memory_gb: float | None = Field(
        default=None, gt=0, description="Most device memory that its tensors may take at their peak, in GB (1e9 bytes)."
    )
    seconds: float | None = Field(
        default=None, gt=0, description="Longest that a whole run may train, in seconds, evaluations left out."
    )
    adapter_mb: float | None = Field(
        default=None, gt=0, description="Largest adapter, or model where all weights are trained, in MB (1e6 bytes)."
    )

    def given(self) -> dict[str, float]:
        """Return the limits that are set, by what they limit."""
        return {name: limit for name in COSTS if (limit := getattr(self, name)) is not None}


class SearchSpec(Section):
    """How configurations are proposed and losers are stopped."""

    sampler: Literal["gp", "tpe", "cma-es", "nsga-ii", "random", "grid", "qmc"] = Field(
        default="gp", description="Who proposes."
    )
    pruner: Literal[
        "early_exit",
        "halving",
        "successive_halving",
        "hyperband",
        "percentile",
        "median",
        "patient",
        "threshold",
        "none",
    ] = Field(
        default="early_exit",
        description="Who stops losers early; early_exit stops whom neither its own slope nor its peers' gains "
        "carry past the best, halving all but the better half at each rung.",
    )
    rungs: list[float] = Field(
        default=[0.25, 0.5], description="Fractions of the run at which halving compares trials."
    )
    patience: int = Field(
        default=3, ge=1, description="Evaluations without a better value that pruner patient allows a trial."
    )
    threshold_lower: float | None = Field(
        default=None, allow_inf_nan=False, description="Pruner threshold stops a trial that reports less."
    )
    threshold_upper: float | None = Field(
        default=None, allow_inf_nan=False, description="Pruner threshold stops a trial that reports more."
    )
    constraints: ConstraintsSpec = Field(
        default_factory=ConstraintsSpec, description="What a trial may cost at most; others are never chosen."
    )
    goals: list[Literal["loss", "seconds", "memory_gb", "adapter_mb"]] = Field(
        default=["loss"],
        min_length=1,
        description="What the search makes small: the loss, and beside it what a trial costs. With several it looks "
        "for the trials that no other beats in all of them, and no pruner compares trials.",
    )
    startup_trials: int = Field(
        default=5,
        ge=0,
        description="Trials that fill the space, after the default and what is enqueued, before a model is asked.",
    )
    enqueue: list[dict[str, ParameterValue]] = Field(
        default=[],
        max_length=1000,
        description="Configurations tried first, after the default; what one leaves out is the default's.",
    )
    share: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the training rows that proxy and coarse runs are trained on."
    )
    warm_start: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Another study of this database whose search results the sampler knows from the start.",
    )
    stop_when_gain_below: float | None = Field(
        default=None,
        gt=0,
        description="End the search before its budget when the trials that are left are not expected to improve on the "
        "best by so much, in the unit of what is measured (nats per token for a loss).",
    )
    seed: int = Field(default=42, ge=0, description="Seed of the sampler and of every search trial.")
    parallel_per_gpu: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="auto",
        description="LoRA trials trained side by side on one device; auto measures how many are worth it, up to 8, "
        "and all workers together a quarter of the search budget. 1 is one after another.",
    )
    direction: Annotated[Direction, one_of([d.value for d in Direction], Direction)] = Field(
        default=Direction.MINIMIZE,
        description="maximize is for objectives of your own; losses are minimised, metrics that "
        "are selected on maximised unless minimize stands here for one of your own.",
    )
    budget: BudgetSpec = Field(default_factory=BudgetSpec, description="When to stop.")

    @model_validator(mode="after")
    def _threshold_is_given(self) -> Self:
        lower, upper = self.threshold_lower, self.threshold_upper
        if self.pruner == "threshold" and lower is None and upper is None:
            raise refusal(
                "SearchSpec", "give threshold_lower or threshold_upper, which pruner threshold needs", "pruner"
            )
        if lower is not None and upper is not None and lower >= upper:
            raise refusal("SearchSpec", f"must be below threshold_upper, which is {upper:g}", "threshold_lower")
        return self

    @property
    def costs(self) -> list[str]:
        """The goals beside the loss, in their order."""
        return list(self.goals[1:])

    @property
    def weighed(self) -> set[str]:
        """The costs that decide anything: limits and goals."""
        return {*self.constraints.given(), *self.costs}

    @field_validator("goals")
    @classmethod
    def _goals_begin_with_the_loss(cls, goals: list[str]) -> list[str]:
        if goals[0] != LOSS:
            raise ValueError(f"the first goal is {LOSS}, on which the study's verdict stays: begin with it")
        if len(set(goals)) < len(goals):
            raise ValueError("a goal is named twice: name each once")
        return goals

    @field_validator("enqueue", mode="before")
    @classmethod
    def _lists_of_modules_are_one_value(cls, enqueue: Any) -> Any:
        return [with_modules_as_text(each) for each in enqueue] if isinstance(enqueue, list) else enqueue

    @field_validator("rungs")
    @classmethod
    def _rungs_rise(cls, rungs: list[float]) -> list[float]:
        return rising_fractions(rungs)
