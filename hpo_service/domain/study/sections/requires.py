"""What a worker must have to be given a study's trials: memory of its GPUs, and labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo_service.domain.study.protocol import STAGES
from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.validation import one_of

LABEL = r"^[A-Za-z0-9][A-Za-z0-9._/=-]{0,62}$"
"""What a label may look like: of the study file, and of a worker."""

Label = Annotated[str, Field(pattern=LABEL)]
Memory = Annotated[float, Field(gt=0, le=1e6)] | Literal["estimate"]


class StageRequirements(Section):
    """What a worker must have for the trials of one stage; what is left out is as for the whole study."""

    memory_gb: Memory | None = Field(default=None, description="As `execution.requires.memory_gb`.")
    labels: list[Label] | None = Field(default=None, description="As `execution.requires.labels`.")


class Requirements(Section):
    """What a worker must have to be given trials of this study; see [unlike GPUs](fleet/unlike-gpus.md)."""

    memory_gb: Memory | None = Field(
        default=None,
        description="Least memory of each GPU in GB (1e9 bytes), or `estimate`: what the stage's largest trial is "
        "thought to need with one row at a time.",
    )
    labels: list[Label] = Field(
        default=[], max_length=20, description="Labels that a worker must have, all of them: its own, or of its GPU."
    )
    stages: dict[Annotated[str, one_of(STAGES)], StageRequirements] = Field(
        default={}, description="Other requirements of a stage, by its name."
    )

    def of_stage(self, stage: str) -> StageRequirements:
        """What holds for a stage: its own where it says something, else the study's."""
        own = self.stages.get(stage, StageRequirements())
        memory = self.memory_gb if own.memory_gb is None else own.memory_gb
        return StageRequirements(memory_gb=memory, labels=self.labels if own.labels is None else own.labels)
