"""One run as a study file fixes it: hyper-parameters that are not searched, and how the run is watched."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hpo_service.domain.study.hyperparameters import SEARCHABLE, Hyperparameters
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.validation import refusal

Order = Literal["shuffled", "curriculum", "progressive"]

CHECKPOINTED_PARAMETERS = 2_000_000_000
"""From this many weights on, activations rather than weights are what fills a GPU at usual lengths."""


class TrainingSpec(Hyperparameters):
    """One run: fixed hyper-parameters (anything not searched) and how it is watched."""

    epochs: int = Field(default=1, ge=1, le=100, description="Passes over the training rows.")
    evaluations_per_epoch: int = Field(
        default=8, ge=1, le=1000, description="Evaluations at equal fractions, the same for every trial."
    )
    evaluation_rows: Literal["auto", "all"] | Annotated[int, Field(ge=1)] = Field(
        default="auto",
        description="Validation rows of the evaluations before the last, the same for every trial. auto: as many as "
        "keep a run's evaluations at a tenth of its training, never fewer than 256. The last evaluation, which is a "
        "trial's value, is always of all rows.",
    )
    patience: int = Field(default=3, ge=0, description="Evaluations without improvement before stopping; 0 is never.")
    min_improvement: float = Field(default=0.001, ge=0, description="What counts as an improvement of the loss.")
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="Rows per forward pass; left out, up to 8 that divide the effective batch.",
    )
    group_by_length: bool = Field(
        default=False, description="Put rows of like length into one batch: less padding, a less random order."
    )
    order: Order = Field(
        default="shuffled",
        description="Order of the rows in the first epoch, each once; later epochs are shuffled. curriculum: ten parts "
        "from the shortest rows to the longest, each shuffled. progressive: a quarter of the rows drawn from the "
        "shorter half, the next from the shortest three quarters, the rest from all.",
    )

    activation_checkpointing: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Compute activations again in the backward pass instead of keeping them: less memory, about a "
        "quarter slower. auto is on for bases of 2 billion weights or more on a GPU.",
    )

    @model_validator(mode="after")
    def _rows_have_one_order(self) -> Self:
        if self.group_by_length and self.order != "shuffled":
            reason = f"{self.order} is an order of its own, and so is group_by_length: drop one"
            raise refusal("TrainingSpec", reason, "order")
        return self

    def checkpoints_activations(self, parameters: int, *, on_gpu: bool) -> bool:
        """Decide whether activations are computed again, for a base of this many weights."""
        if self.activation_checkpointing != "auto":
            return self.activation_checkpointing == "on"
        return on_gpu and parameters >= CHECKPOINTED_PARAMETERS and METHODS[self.method].checkpointable

    def hyperparameters(self) -> Hyperparameters:
        """Return only the hyper-parameters, keeping which of them were given."""
        given = {k: v for k, v in self.model_dump(exclude_unset=True).items() if k in SEARCHABLE}
        return Hyperparameters.model_validate(given)
