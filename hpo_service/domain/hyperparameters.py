"""The hyper-parameters of one training run, with the defaults practitioners start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from hpo_service.domain.misfit import refusal
from hpo_service.domain.space import ParameterValue

Method = Literal["lora", "qlora", "rslora", "dora", "full"]
Targets = Literal["minimal", "attention", "all-linear", "full"]

ALPHA_GIVEN_TWICE = "lora_alpha and lora_alpha_multiplier both set alpha: give one of them"


class Hyperparameters(BaseModel):
    """One complete configuration; every field may be fixed under `training` or searched under `space`.

    Sources of the defaults: "works 90% of the time" (lr 2e-4, r 16, alpha 16, cosine with 3% warm-up,
    all-linear) from public LoRA fine-tuning guides; effective batch 16 for 1k to 10k rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: Method = Field(default="lora", description="Which parameters are trained, and how the base is held.")
    learning_rate: float = Field(default=2e-4, gt=0, le=1, description="Peak learning rate.")
    lora_rank: int = Field(default=16, ge=1, le=1024, description="Rank r of the adapters.")
    lora_alpha: float | None = Field(
        default=None, gt=0, description="Adapter scale alpha; leave out to use the multiplier."
    )
    lora_alpha_multiplier: float = Field(default=1.0, gt=0, le=64, description="alpha = multiplier x rank.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the adapters.")
    target_modules: Targets | Annotated[list[str], Field(min_length=1)] = Field(
        default="all-linear",
        description="Where adapters go: minimal (q, v), attention (q, k, v, o), all-linear, full, or names.",
    )
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1, description="Share of the steps spent warming up.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="AdamW weight decay.")
    scheduler: Literal["cosine", "linear", "constant_with_warmup", "constant"] = Field(
        default="cosine", description="Learning-rate schedule over the full epoch."
    )
    effective_batch: int = Field(default=16, ge=1, description="Rows per optimizer step, all devices together.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradient norm above which gradients are clipped.")

    @model_validator(mode="after")
    def _alpha_is_given_once(self) -> Self:
        if self.lora_alpha is not None and "lora_alpha_multiplier" in self.model_fields_set:
            raise refusal("Hyperparameters", ALPHA_GIVEN_TWICE, "lora_alpha")
        return self

    @model_serializer(mode="wrap")
    def _alpha_is_written_once(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        if self.lora_alpha is not None:  # so that what was written can be read again
            written.pop("lora_alpha_multiplier", None)
        return written

    @property
    def alpha(self) -> float:
        """The adapter scale alpha itself, whichever way it was given."""
        return self.lora_alpha if self.lora_alpha is not None else self.lora_alpha_multiplier * self.lora_rank

    def with_values(self, values: Mapping[str, ParameterValue]) -> Hyperparameters:
        """Return a copy with these values set; unknown names, impossible values raise a ValidationError."""
        given: dict[str, Any] = self.model_dump(exclude_unset=True)
        if "lora_alpha" in values:
            given.pop("lora_alpha_multiplier", None)
        if "lora_alpha_multiplier" in values:
            given.pop("lora_alpha", None)
        return Hyperparameters.model_validate({**given, **values})


SEARCHABLE = frozenset(Hyperparameters.model_fields)
"""Names that may stand under `space`: exactly the fields of `Hyperparameters`."""
