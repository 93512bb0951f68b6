"""The models of a study: which one is searched on, which one the config is for, and how they are held."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from hpo_service.domain.misfit import refusal
from hpo_service.domain.space_spec import Section


class ModelSpec(Section):
    """Which model is searched on (`base`, small) and which one the config is for (`target`, large)."""

    base: str = Field(min_length=1, description="Hub name, local folder, or `builtin:` name of the small model.")
    target: str | None = Field(
        default=None, min_length=1, description="The larger model the best configs are carried over to."
    )
    quantisation: Literal["none", "nf4", "int8"] = Field(
        default="none", description="How frozen base weights are held; nf4 uses double quantisation."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Compute type; auto is bfloat16 where the GPU has it, float32 on a CPU."
    )
    trust_remote_code: bool = Field(default=False, description="Run Python code that comes with the model. Off.")

    @model_validator(mode="before")
    @classmethod
    def _a_target_has_a_base(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("target") is not None and data.get("base") is None:
            reason = "a target needs a base: name the small model of the same family that is searched on"
            raise refusal("ModelSpec", reason, "target")
        return data
