"""What a study file says about the proof at the end."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from hpo_service.domain.study.methods import with_modules_as_text
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.section import Section


class ConfirmSpec(Section):
    """The last stage: is the winner really better than the default?"""

    enabled: bool = Field(default=True, description="Run the confirm stage.")
    seeds: int = Field(default=3, ge=2, le=100, description="New seeds per config.")
    top: int = Field(default=1, ge=1, le=10, description="Best configs confirmed beside the default.")
    default: dict[str, ParameterValue] | None = Field(
        default=None, description="The config to beat; left out, the practitioners' default."
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Level of the interval.")

    @field_validator("default", mode="before")
    @classmethod
    def _lists_of_modules_are_one_value(cls, default: Any) -> Any:
        return with_modules_as_text(default)
