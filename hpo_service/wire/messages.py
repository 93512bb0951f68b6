"""What a worker's supervisor and its child say to each other: one message a line, tagged by `type`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.domain.trial.reason import Reason
from hpo_service.domain.trial.record import Record
from hpo_service.domain.trial.report import Report

LEAVING = Decision(action="release", reason="the worker is shutting down")
"""Why a child that was told to leave gives its trials back, whoever told it."""


class Admit(Record):
    """Supervisor to child: start (or resume, if a checkpoint lies in its folder) this trial."""

    type: Literal["admit"] = "admit"
    assignment: Assignment
    folder: Path = Field(description="Of the attempt.")
    store: str = Field(default="", description="URL of the store to which what is saved is copied; empty: none.")

    @property
    def trial(self) -> str:
        """Name of the trial in all further messages."""
        return self.assignment.name


class Continue(Record):
    """Supervisor to child: the report was taken, go on."""

    type: Literal["continue"] = "continue"
    trial: str


class Stop(Record):
    """Supervisor to child: end this trial now, in the way that was decided and no other."""

    type: Literal["stop"] = "stop"
    trial: str
    decision: Decision
    answers: int | None = Field(default=None, description="Step of the report that was judged, if one was.")

    @property
    def reason(self) -> str:
        """Why, for a person."""
        return self.decision.reason

    def overtakes(self, step: int) -> bool:
        """Whether it comes before the answer to this report, which the supervisor may not live to deliver."""
        return self.saves if self.answers is None else self.answers != step

    @property
    def saves(self) -> bool:
        """Whether a checkpoint is saved first, so that the trial can be resumed."""
        return self.decision.saves


class Shutdown(Record):
    """Supervisor to child: nothing more will come; exit."""

    type: Literal["shutdown"] = "shutdown"


class Started(Record):
    """Child to supervisor: the trial is set up; training begins (at `resumed_at` of the epoch, 0 if fresh)."""

    type: Literal["started"] = "started"
    trial: str
    resumed_at: float = 0.0
    models: dict[str, ModelFacts] = Field(default_factory=dict)


class Reported(Record):
    """Child to supervisor: an evaluation; the child waits for `continue` or `stop` before it trains on."""

    type: Literal["report"] = "report"
    trial: str
    report: Report


class CheckpointLost(Record):
    """Child to supervisor: a checkpoint could not be saved, copied to the store or fetched; the trial goes on."""

    type: Literal["checkpoint_lost"] = "checkpoint_lost"
    trial: str
    reason: Reason


class Finished(Record):
    """Child to supervisor: the trial ended; after `stop` its kind is the one that was ordered."""

    type: Literal["finished"] = "finished"
    trial: str
    outcome: Outcome


class Failed(Record):
    """Child to supervisor: the trial ended in an error; with `fatal` the child must be restarted.

    `retryable` is False where another attempt can only fail the same way (missing data, not a causal LM).
    """

    type: Literal["failed"] = "failed"
    trial: str
    reason: Reason
    fatal: bool = False
    retryable: bool = True


class Capacity(Record):
    """Child to supervisor: how many trials it serves at once from now on, and why."""

    type: Literal["capacity"] = "capacity"
    slots: int = Field(ge=1)
    reason: Reason


class Ready(Record):
    """Child to supervisor: its libraries are loaded and its device has computed something; said once."""

    type: Literal["ready"] = "ready"
    device: str = Field(description="The GPU's name, or cpu.")


class Unusable(Record):
    """Child to supervisor: it cannot train anything here; it ends, and another one would say the same."""

    type: Literal["unusable"] = "unusable"
    reason: Reason


class Heartbeat(Record):
    """Child to supervisor: alive; `progress` is the share of the epoch done, per trial."""

    type: Literal["heartbeat"] = "heartbeat"
    progress: dict[str, float] = Field(default_factory=dict)
    activity: str = ""


ToTrial: TypeAlias = Continue | Stop
FromTrial: TypeAlias = Started | Reported | CheckpointLost | Finished | Failed
ToChild: TypeAlias = Admit | ToTrial | Shutdown
FromChild: TypeAlias = FromTrial | Capacity | Ready | Unusable | Heartbeat

TO_CHILD: TypeAdapter[ToChild] = TypeAdapter(Annotated[ToChild, Field(discriminator="type")])
FROM_CHILD: TypeAdapter[FromChild] = TypeAdapter(Annotated[FromChild, Field(discriminator="type")])
