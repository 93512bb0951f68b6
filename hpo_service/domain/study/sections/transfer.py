"""How a study file says that search winners are carried to the target model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.validation import rising_fractions


class TransferSpec(Section):
    """How search winners are carried to the target model.

    lr x (h_small/h_large)^0.5 lost least on public LoRA sweeps (35 pairs, 0.13% NLL on average); no rule
    beats a short bracket around it.
    """

    rule: Literal["width", "practitioners", "tinker", "copy", "calibrated"] = Field(
        default="width",
        description="How rank and learning rate change: by the widths of the models; halved as practitioners do; by "
        "tinker's formula; not at all; by what earlier studies of the family found.",
    )
    top: int = Field(default=3, ge=1, le=20, description="Search configs carried over.")
    rank_factor: float = Field(default=2.0, ge=1, le=16, description="Rank grows by this factor.")
    rank_cap: int = Field(default=64, ge=1, le=1024, description="Largest rank after growing.")
    width_exponent: float = Field(default=0.5, ge=0, le=2, description="lr x (h_small/h_large)^this.")
    bracket: list[float] = Field(
        default=[0.5, 1.0, 2.0], min_length=1, description="Multiples of the scaled lr that are tried."
    )

    extend: int = Field(
        default=3, ge=0, le=20, description="Trials beyond the bracket, while the best of it lies at its edge."
    )
    rungs: list[float] = Field(
        default=[0.2], description="Fractions of the run at which the better half of the verify stage goes on."
    )
    control: bool = Field(default=True, description="Run the default beside them, to see what carrying over is worth.")

    @field_validator("rungs")
    @classmethod
    def _rungs_rise(cls, rungs: list[float]) -> list[float]:
        return rising_fractions(rungs)

    @field_validator("bracket")
    @classmethod
    def _bracket_is_positive(cls, bracket: list[float]) -> list[float]:
        if any(factor <= 0 for factor in bracket) or len(set(bracket)) != len(bracket):
            raise ValueError("bracket must hold distinct factors above 0")
        return bracket
