"""What is known of a model without loading it."""

from __future__ import annotations

from pydantic import Field

from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.trial.record import Record


class ModelFacts(Record):
    """What planning needs to know of a model without loading it."""

    family: str = Field(description="`model_type` of its config.")
    hidden_size: int = Field(gt=0)
    parameters: int | None = Field(default=None, description="Number of weights, when loaded.")
    fingerprint: str = Field(default="", description="Hash of configuration and weights' identity.")
    shape: ModelShape | None = Field(default=None, description="Sizes that decide its memory, where its config tells.")
