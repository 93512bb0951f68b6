"""What the holder of a trial is told to do, and what an order to stop means: one row for each action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.reason import Reason
from hpo_service.domain.trial.record import Record

Action = Literal["continue", "prune", "cancel", "release", "abandon"]


@dataclass(frozen=True)
class Meaning:
    """How a trial ends that obeys an action, if it ends, and whether it saves a checkpoint first."""

    ends_as: OutcomeKind | None = None
    saves: bool = False


ACTIONS: Mapping[Action, Meaning] = {
    "continue": Meaning(),
    "prune": Meaning(OutcomeKind.PRUNED),
    "cancel": Meaning(OutcomeKind.CANCELLED),
    # Another attempt goes on from the checkpoint.
    "release": Meaning(OutcomeKind.RELEASED, saves=True),
    # The lease is somebody else's: whoever has it may still take the checkpoint over, but nothing more is written.
    "abandon": Meaning(OutcomeKind.RELEASED, saves=True),
}


class Decision(Record):
    """What the holder of a trial must do next, and why."""

    action: Action
    reason: Reason

    @property
    def ends_as(self) -> OutcomeKind | None:
        """How a trial ends that obeys; None where it goes on."""
        return ACTIONS[self.action].ends_as

    @property
    def saves(self) -> bool:
        """Whether a trial that obeys saves a checkpoint first."""
        return ACTIONS[self.action].saves
