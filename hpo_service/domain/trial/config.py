"""The configuration of one trial, complete: all that its child is told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.evaluation import EvaluationSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.study.sections.tracking import TrackingSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.record import Record


class TrialConfig(Record):
    """Everything a child needs to run a trial; nothing else about the study reaches it.

    `model_name` is the model trained here (base or target); `parameters` are the values as sampled, in which an
    objective of the user's own is interested; `training` has them already applied.
    """

    study: str
    stage: str
    parameters: dict[str, ParameterValue]
    seed: int
    objective: ObjectiveSpec | None = None
    model: ModelSpec | None = None
    model_name: str | None = None
    data: DataSpec | None = None
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    score_test: bool = False
    keep_adapter: bool = False
    evaluation: EvaluationSpec | None = Field(default=None, description="Task metrics to measure at the end.")
    tracking: TrackingSpec | None = Field(default=None, description="Trackers to report to.")
    sharding: Literal["none", "fsdp"] = "none"
    memory_correction: float = Field(default=1.0, gt=0, description="Measured memory over estimate, so far.")
    share: float = Field(default=1.0, gt=0, le=1, description="Share of the training rows that are trained on.")

    @property
    def models(self) -> list[str]:
        """Names of the study's models, base first; none where an objective of the user's own runs."""
        names = [self.model.base, self.model.target] if self.model is not None else []
        return [name for name in names if name]
