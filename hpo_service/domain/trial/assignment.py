"""What a worker holds of a trial: the lease, and the assignment that came with it."""

from __future__ import annotations

from pydantic import Field

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.record import Record


class Lease(Record):
    """The right to write about one trial: who holds it is decided by `token`, never by time alone."""

    trial_id: int = Field(description="Row of `hpo_trial`.")
    token: int = Field(description="Fencing token, grows with every claim of this trial.")


class Assignment(Record):
    """A claimed trial: its lease, its place in the study and its configuration."""

    lease: Lease
    study: str
    stage: str
    number: int = Field(description="Optuna's trial number within the stage.")
    attempt: int = Field(ge=1)
    config: TrialConfig
    lease_seconds: float
    hang_seconds: float
    slots: int = Field(default=1, ge=1, description="Trials that one child may serve at once in this stage.")
    measure: bool = Field(default=False, description="The child finds out how many of them are worth it.")
    gpus: int = Field(default=1, description="GPUs, or processes on a CPU, that share each trial.")
    identity: str = Field(
        default="", description="Tells it from trials of the same name in studies that were deleted; empty if unknown."
    )
    failures: int = Field(default=0, description="Attempts before this one that ended in an error or were lost.")
    last: bool = Field(default=False, description="Another error, or another loss, of this trial ends it.")

    @property
    def key(self) -> str:
        """Name of the trial within its study, and of its folder, e.g. `search-0007`."""
        return f"{self.stage}-{self.number:04d}"

    @property
    def name(self) -> str:
        """Name of the attempt in messages, unique among everything one child may hold, e.g. `mine/search-0007/2`."""
        return f"{self.study}/{self.key}/{self.attempt}"
