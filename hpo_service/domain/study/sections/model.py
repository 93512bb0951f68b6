"""The models of a study: which one is searched on, which one the config is for, and how they are held."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.sources import BUILTIN, looks_local
from hpo_service.domain.study.validation import refusal


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
        default="auto",
        description="Compute type; auto is bfloat16 where the GPU has it, else float16 with a scaled loss, and "
        "float32 on a CPU.",
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        default="auto",
        description="Attention implementation; auto is the fastest that the model offers without extras.",
    )
    revision: str | None = Field(
        default=None, min_length=1, description="Branch, tag or commit of `base` on the hub; left out, its newest."
    )
    target_revision: str | None = Field(default=None, min_length=1, description="The same for `target`.")
    trust_remote_code: bool = Field(default=False, description="Run Python code that comes with the model. Off.")

    @model_validator(mode="before")
    @classmethod
    def _a_target_has_a_base(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("target") is not None and data.get("base") is None:
            reason = "a target needs a base: name the small model of the same family that is searched on"
            raise refusal("ModelSpec", reason, "target")
        return data

    @model_validator(mode="after")
    def _revisions_are_of_hub_models(self) -> Self:
        for key, name in (("revision", self.base), ("target_revision", self.target)):
            if getattr(self, key) is not None and (name is None or name.startswith(BUILTIN) or looks_local(name)):
                raise refusal("ModelSpec", f"is for a model from the hub, not {name or 'none'}: drop {key}", key)
        return self

    def revision_of(self, name: str) -> str | None:
        """Give the revision of the base or the target, or None for the newest."""
        return self.revision if name == self.base else self.target_revision
