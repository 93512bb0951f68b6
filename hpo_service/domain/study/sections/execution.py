"""How trials are held by workers: attempts, leases, the devices of each, and who may have them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpo_service.domain.study.sections.requires import Requirements
from hpo_service.domain.study.sections.section import Section


class ExecutionSpec(Section):
    """How trials are held by workers."""

    max_attempts: int = Field(default=3, ge=1, le=100, description="Attempts that may end in an error.")
    max_losses: int = Field(default=20, ge=1, description="Attempts that may be lost with their worker or preempted.")
    lease_seconds: float = Field(default=60.0, gt=0, le=86400, description="How long a silent worker keeps a trial.")
    hang_seconds: float = Field(
        default=600.0, gt=0, description="A trainer child silent for this long is killed and restarted."
    )
    gpus_per_trial: int = Field(
        default=1, ge=1, le=64, description="GPUs of one machine that share each trial's effective batch."
    )
    sharding: Literal["none", "fsdp"] = Field(
        default="none",
        description="fsdp: a trial's GPUs hold the frozen base in shares, for what does not fit on one; slower.",
    )
    keep_adapters: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Adapters kept of search and of verify each, those of their best trials so far; confirm keeps all "
        "of its own.",
    )
    requires: Requirements = Field(default_factory=Requirements, description="What a worker must have.")
