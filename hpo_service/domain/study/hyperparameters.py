"""The hyper-parameters of one training run, with the defaults practitioners start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from hpo_service.domain.study.methods import METHODS, ONLY_FOR, STARTS, TARGETS, modules_from_text
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.validation import one_of, refusal

# Of transformers' optimizers those that need no further package; bitsandbytes' run on CPUs too.
Optimizer = Literal[
    "adamw_torch_fused",
    "adamw_torch",
    "adamw_8bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "ademamix",
    "ademamix_8bit",
    "paged_ademamix_8bit",
    "lion_32bit",
    "lion_8bit",
    "paged_lion_8bit",
    "adafactor",
    "adagrad",
    "rmsprop",
    "sgd",
]
# Schedules that are known in full before the first step: what reacts to the loss makes trials incomparable.
Scheduler = Literal[
    "cosine",
    "linear",
    "constant_with_warmup",
    "constant",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
    "step",
    "exponential",
]

ALPHA_GIVEN_TWICE = "lora_alpha and lora_alpha_multiplier both set alpha: give one of them"


class Hyperparameters(BaseModel):
    """One complete configuration; every field may be fixed under `training` or searched under `space`.

    Sources of the defaults: "works 90% of the time" (lr 2e-4, r 16, alpha 16, cosine with 3% warm-up,
    all-linear) from public LoRA fine-tuning guides; effective batch 16 for 1k to 10k rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: Annotated[str, one_of(METHODS)] = Field(
        default="lora", description="Which parameters are trained, and how the base is held."
    )
    learning_rate: float = Field(default=2e-4, gt=0, le=1, description="Peak learning rate.")
    lora_rank: int = Field(default=16, ge=1, le=1024, description="Rank r of the adapters.")
    lora_alpha: float | None = Field(
        default=None, gt=0, description="Adapter scale alpha; leave out to use the multiplier."
    )
    lora_alpha_multiplier: float = Field(default=1.0, gt=0, le=64, description="alpha = multiplier x rank.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the adapters.")
    lora_bias: Literal["none", "all", "lora_only"] = Field(
        default="none", description="Biases of the model that are trained too: all, or those of adapted modules."
    )
    lora_plus_ratio: float = Field(
        default=1.0, ge=1, le=128, description="LoRA+: learning rate of B over that of A; 1 is plain LoRA, 16 is usual."
    )
    init_lora_weights: Annotated[str, one_of(STARTS)] = Field(default="default", description="How adapters begin.")
    target_modules: Annotated[str, one_of(TARGETS)] | Annotated[list[str], Field(min_length=1)] = Field(
        default="all-linear",
        description="Where adapters go: minimal (q, v), attention (q, k, v, o), all-linear, full, or names.",
    )
    prefix_tokens: int = Field(default=20, ge=1, le=1000, description="Virtual tokens of prefix tuning.")
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1, description="Share of the steps spent warming up.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Weight decay.")
    optimizer: Optimizer = Field(
        default="adamw_torch_fused",
        description="8-bit ones save memory, paged ones move their state to the host when the GPU is full.",
    )
    scheduler: Scheduler = Field(default="cosine", description="Learning-rate schedule over the full run.")
    scheduler_cycles: int = Field(default=2, ge=1, le=100, description="Times cosine_with_restarts starts.")
    scheduler_power: float = Field(default=2.0, gt=0, le=10, description="Power of polynomial decay; 1 is linear.")
    min_lr_rate: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Last over peak learning rate of cosine_with_min_lr, warmup_stable_decay and exponential.",
    )
    decay_ratio: float = Field(
        default=0.2, gt=0, le=1, description="Share of the steps that warmup_stable_decay ends with falling."
    )
    effective_batch: int = Field(default=16, ge=1, description="Rows per optimizer step, all devices together.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradient norm above which gradients are clipped.")
    scratch_architecture: Literal["llama", "gpt2"] = Field(
        default="llama", description="What a model from scratch is built as; gpt2 has dropout on every path."
    )
    scratch_width: int = Field(default=128, ge=8, le=16384, description="Width (hidden size) of a model from scratch.")
    scratch_layers: int = Field(default=6, ge=1, le=200, description="Layers of a model from scratch.")
    scratch_heads: int = Field(default=8, ge=1, le=256, description="Attention heads; they must divide the width.")
    scratch_dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout of a model from scratch.")
    scratch_length: int = Field(
        default=0,
        ge=0,
        description="Train a model from scratch on pieces of rows this long, in tokens; 0 is whole rows. "
        "Evaluation always sees whole rows.",
    )

    @field_validator("target_modules", mode="before")
    @classmethod
    def _modules_may_be_a_choice(cls, value: Any) -> Any:
        return modules_from_text(value)

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

    @property
    def leaves_base(self) -> bool:
        """Whether a base that has served this trial is bit for bit what it was, and may serve the next.

        Adapters are put on and taken off again; some ways to start them take their part out of the base, and
        trained biases are the base's own.
        """
        method = METHODS[self.method]
        borrowed = method.low_rank and (self.lora_bias != "none" or STARTS[self.init_lora_weights].moves_base)
        return method.base == "frozen" and not borrowed

    def reads(self, name: str) -> bool:
        """Whether the value of this field makes a difference to the run, given the others."""
        selector, values = ONLY_FOR.get(name, ("", frozenset()))
        return not selector or getattr(self, selector) in values

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
