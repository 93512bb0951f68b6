"""What a study file says about the budget of the whole study, all its stages together."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.validation import refusal


class WholeBudgetSpec(Section):
    """What all stages together may take; each limit may be left out, and the first one met holds."""

    trials: int | None = Field(
        default=None, ge=1, le=100_000, description="Trials of all stages; search gets what verify and confirm leave."
    )
    gpu_hours: float | None = Field(default=None, gt=0, description="Device hours of all stages.")
    money: float | None = Field(default=None, gt=0, description="What they may cost, by price_per_hour.")
    price_per_hour: float | None = Field(default=None, gt=0, description="What one device costs an hour.")

    @model_validator(mode="after")
    def _money_has_a_price(self) -> Self:
        if self.money is not None and self.price_per_hour is None:
            raise refusal("WholeBudgetSpec", "money needs price_per_hour, what one device costs an hour", "money")
        return self

    @property
    def hours(self) -> float | None:
        """Device hours that all stages may take, those that the money buys included; None for no such limit."""
        bought = None if self.money is None or self.price_per_hour is None else self.money / self.price_per_hour
        return min((hours for hours in (self.gpu_hours, bought) if hours is not None), default=None)
