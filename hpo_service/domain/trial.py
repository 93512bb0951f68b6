"""One trial as it travels: the assignment a worker holds, the configuration a child trains, the outcome it returns."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hpo_service.domain.data_spec import DataSpec
from hpo_service.domain.evaluation_spec import EvaluationSpec
from hpo_service.domain.model_shape import ModelShape
from hpo_service.domain.model_spec import ModelSpec
from hpo_service.domain.space import ParameterValue
from hpo_service.domain.study import ObjectiveSpec
from hpo_service.domain.tracking_spec import TrackingSpec
from hpo_service.domain.training_spec import TrainingSpec


class Stage(StrEnum):
    """The three stages of a study, in order; each is one Optuna study named `<study>/<stage>`."""

    SEARCH = "search"
    VERIFY = "verify"
    CONFIRM = "confirm"


class _Record(BaseModel):
    # a loss that is not finite travels as NaN or Infinity, not as null
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class TrialConfig(_Record):
    """Everything a child needs to run a trial; nothing else about the study reaches it.

    `model_name` is the model trained here (base or target); `parameters` are the values as sampled, in which an
    objective of the user's own is interested; `training` has them already applied.
    """

    study: str
    stage: Stage
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


class Lease(_Record):
    """The right to write about one trial: who holds it is decided by `token`, never by time alone."""

    trial_id: int = Field(description="Row of `hpo_trial`.")
    token: int = Field(description="Fencing token, grows with every claim of this trial.")


class Assignment(_Record):
    """A claimed trial: its lease, its place in the study and its configuration."""

    lease: Lease
    study: str
    stage: Stage
    number: int = Field(description="Optuna's trial number within the stage.")
    attempt: int = Field(ge=1)
    config: TrialConfig
    lease_seconds: float
    hang_seconds: float
    slots: int = Field(default=1, ge=1, description="Trials that one child may serve at once in this stage.")
    measure: bool = Field(default=False, description="The child finds out how many of them are worth it.")
    gpus: int = Field(default=1, description="GPUs, or processes on a CPU, that share each trial.")

    @property
    def key(self) -> str:
        """Name of the trial in messages and folders, e.g. `search-0007`."""
        return f"{self.stage.value}-{self.number:04d}"


def storable(text: object) -> object:
    """Write out what no database takes as text: NUL characters, and the half characters of undecodable file names."""
    if not isinstance(text, str):
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


Reason = Annotated[str, BeforeValidator(storable), Field(min_length=1)]
"""Why something was decided or how it ended, in words that can be stored anywhere."""


class Report(_Record):
    """One evaluation of a running trial.

    `step` counts evaluations from 1; `fraction` is the share of the training examples seen; `value` is what is
    minimised (mean NLL per supervised validation token, in nats) or the user's own measure.
    """

    step: int = Field(ge=0, lt=2**31)  # an SQL INTEGER holds no more
    fraction: float = Field(ge=0, le=1)
    value: float
    metrics: dict[str, float] = Field(default_factory=dict)


class Decision(_Record):
    """What the holder of a trial must do next, and why."""

    action: Literal["continue", "prune", "cancel", "release", "abandon"]
    reason: Reason


class Scores(_Record):
    """Per-example sums of token NLL (nats) and supervised token counts, aligned, in the frozen order of the split."""

    nll: list[float]
    tokens: list[int]

    @property
    def mean(self) -> float:
        """Token-weighted mean NLL: sum of NLL over the number of supervised tokens."""
        return sum(self.nll) / max(1, sum(self.tokens))


class ModelFacts(_Record):
    """What planning needs to know of a model without loading it."""

    family: str = Field(description="`model_type` of its config.")
    hidden_size: int = Field(gt=0)
    parameters: int | None = Field(default=None, description="Number of weights, when loaded.")
    fingerprint: str = Field(default="", description="Hash of configuration and weights' identity.")
    shape: ModelShape | None = Field(default=None, description="Sizes that decide its memory, where its config tells.")


class OutcomeKind(StrEnum):
    """How an attempt ended, as its holder saw it."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    INFEASIBLE = "infeasible"
    ERROR = "error"
    RELEASED = "released"
    CANCELLED = "cancelled"


class Outcome(_Record):
    """The end of an attempt with its reason; `value` is the final measure where there is one."""

    kind: OutcomeKind
    reason: Reason
    value: float | None = None
    validation: Scores | None = None
    test: Scores | None = None
    adapter: str | None = Field(default=None, description="Folder of the saved adapter, if kept.")
    retryable: bool = Field(default=True, description="False where another attempt can only fail the same way.")
    restart: bool = Field(default=False, description="The child must be replaced before it takes another trial.")
    facts: dict[str, float | int | str] = Field(default_factory=dict, description="Seconds, tokens, memory, versions.")

    @property
    def shared_seconds(self) -> float | None:
        """What the attempt had of a device that it shared: its holder knows who was there when, the books do not."""
        spent = self.facts.get("device_seconds")
        if self.facts.get("engine") != "packed" or not isinstance(spent, int | float):
            return None
        return float(spent) if math.isfinite(spent) and spent >= 0 else None
