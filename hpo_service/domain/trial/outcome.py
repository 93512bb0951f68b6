"""How an attempt ended, as its holder saw it."""

from __future__ import annotations

import math

from pydantic import Field

from hpo_service.domain.trial.facts import FlatFacts, RunFacts
from hpo_service.domain.trial.reason import Reason
from hpo_service.domain.trial.record import Record
from hpo_service.domain.trial.scores import Scores
from hpo_service.domain.trial.states import OutcomeKind

__all__ = ["Outcome", "OutcomeKind"]


class Outcome(Record):
    """The end of an attempt with its reason; `value` is the final measure where there is one."""

    kind: OutcomeKind
    reason: Reason
    value: float | None = None
    validation: Scores | None = None
    test: Scores | None = None
    test_answers: Scores | None = Field(default=None, description="Of test rows, by the metric that is selected on.")
    adapter: str | None = Field(default=None, description="Folder of the saved adapter, if kept.")
    retryable: bool = Field(default=True, description="False where another attempt can only fail the same way.")
    restart: bool = Field(default=False, description="The child must be replaced before it takes another trial.")
    facts: FlatFacts = Field(default_factory=RunFacts, description="Seconds, tokens, memory, versions.")

    @property
    def counts_as(self) -> OutcomeKind:
        """Its kind; one that says complete but has no finite value counts as pruned."""
        valueless = self.value is None or not math.isfinite(self.value)
        return OutcomeKind.PRUNED if self.kind is OutcomeKind.COMPLETE and valueless else self.kind

    @property
    def shared_seconds(self) -> float | None:
        """What the attempt had of a device that it shared: its holder knows who was there when, the books do not."""
        spent = self.facts.timing.device
        if self.facts.environment.engine != "packed" or spent is None:
            return None
        return float(spent) if math.isfinite(spent) and spent >= 0 else None
