"""The JSON lines that a worker's supervisor and its child exchange: one message a line, tagged by `type`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.domain.trial.reason import Reason
from hpo_service.domain.trial.report import Report


class _Message(BaseModel):
    # a loss that is not finite must arrive as it is, not as null
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Admit(_Message):
    """Supervisor to child: start (or resume, if a checkpoint lies in `folder`) this trial."""

    type: Literal["admit"] = "admit"
    trial: str
    config: TrialConfig
    folder: str
    describe: list[str] = Field(default_factory=list, description="Models whose facts are wanted in `started`.")
    slots: int = Field(default=1, ge=1, description="Trials the child may ask to serve at once in this study.")
    measure: bool = Field(default=False, description="The child finds out by itself how many are worth it.")


class Continue(_Message):
    """Supervisor to child: the report was taken, go on."""

    type: Literal["continue"] = "continue"
    trial: str


class Stop(_Message):
    """Supervisor to child: end this trial now; with `checkpoint`, save it first so that it can be resumed."""

    type: Literal["stop"] = "stop"
    trial: str
    reason: str
    checkpoint: bool = False


class Shutdown(_Message):
    """Supervisor to child: nothing more will come; exit."""

    type: Literal["shutdown"] = "shutdown"


class Started(_Message):
    """Child to supervisor: the trial is set up; training begins (at `resumed_at` of the epoch, 0 if fresh)."""

    type: Literal["started"] = "started"
    trial: str
    resumed_at: float = 0.0
    models: dict[str, ModelFacts] = Field(default_factory=dict)


class Reported(_Message):
    """Child to supervisor: an evaluation; the child waits for `continue` or `stop` before it trains on."""

    type: Literal["report"] = "report"
    trial: str
    report: Report


class Finished(_Message):
    """Child to supervisor: the trial ended; after `stop` its kind is pruned, cancelled or released."""

    type: Literal["finished"] = "finished"
    trial: str
    outcome: Outcome


class Failed(_Message):
    """Child to supervisor: the trial ended in an error; with `fatal` the child must be restarted.

    `retryable` is False where another attempt can only fail the same way (missing data, not a causal LM).
    """

    type: Literal["failed"] = "failed"
    trial: str
    reason: Reason
    fatal: bool = False
    retryable: bool = True


class Capacity(_Message):
    """Child to supervisor: how many trials it serves at once from now on, and why."""

    type: Literal["capacity"] = "capacity"
    slots: int = Field(ge=1)
    reason: Reason


class Heartbeat(_Message):
    """Child to supervisor: alive; `progress` is the share of the epoch done, per trial."""

    type: Literal["heartbeat"] = "heartbeat"
    progress: dict[str, float] = Field(default_factory=dict)
    activity: str = ""


ToChild = Annotated[Admit | Continue | Stop | Shutdown, Field(discriminator="type")]
FromChild = Annotated[Started | Reported | Finished | Failed | Capacity | Heartbeat, Field(discriminator="type")]

TO_CHILD: TypeAdapter[Admit | Continue | Stop | Shutdown] = TypeAdapter(ToChild)
FROM_CHILD: TypeAdapter[Started | Reported | Finished | Failed | Capacity | Heartbeat] = TypeAdapter(FromChild)
