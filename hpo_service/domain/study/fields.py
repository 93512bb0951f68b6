"""The sections of a study file, together: what there is to say, before anybody asks whether it fits together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.domain.study.combinations import values_of
from hpo_service.domain.study.protocol import PROTOCOLS
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.budget import WholeBudgetSpec
from hpo_service.domain.study.sections.confirm import ConfirmSpec
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.evaluation import EvaluationSpec
from hpo_service.domain.study.sections.execution import ExecutionSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.sections.space import SpaceSpec
from hpo_service.domain.study.sections.tracking import TrackingSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.sections.transfer import TransferSpec
from hpo_service.domain.study.validation import one_of

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class StudyFields(Section):
    """Everything a study file says; every field has a default worth having, and bounds."""

    name: str = Field(pattern=NAME_PATTERN, description="Name of the study, unique in its database.")
    description: str = Field(default="", max_length=2000, description="Free text for people.")
    protocol: Annotated[str, one_of(PROTOCOLS)] = Field(
        default="full",
        description="What it goes through: full searches, verifies and confirms; tpe, random and grid do so with that "
        "sampler; quick makes 5 or 6 runs; progressive searches coarsely, then finely; proxy on a share of the rows.",
    )
    model: ModelSpec | None = Field(default=None, description="The models.")
    data: DataSpec | None = Field(default=None, description="The rows.")
    objective: ObjectiveSpec | None = Field(default=None, description="Your own objective instead.")
    space: SpaceSpec = Field(default_factory=SpaceSpec, description="What is searched.")
    search: SearchSpec = Field(default_factory=SearchSpec, description="How it is searched.")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="How one run is trained.")
    transfer: TransferSpec = Field(default_factory=TransferSpec, description="From small to large.")
    confirm: ConfirmSpec = Field(default_factory=ConfirmSpec, description="The proof.")
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec, description="Task metrics.")
    tracking: TrackingSpec = Field(default_factory=TrackingSpec, description="Other places runs are reported to.")
    budget: WholeBudgetSpec = Field(default_factory=WholeBudgetSpec, description="What all stages together may take.")
    execution: ExecutionSpec = Field(default_factory=ExecutionSpec, description="Leases and attempts.")

    def values_of(self, name: str) -> list[ParameterValue]:
        """List what a hyper-parameter may be in search: choices, a short range, ends of a long one, or one value."""
        parameter = self.space.resolve().parameters.get(name)
        if parameter is None:
            value = getattr(self.training, name)
            return [value] if isinstance(value, ParameterValue) else []
        return values_of(parameter)
