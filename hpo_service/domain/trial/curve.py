"""What a trial has reported so far, as its peers are compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpo_service.domain.trial.endings import FINAL
from hpo_service.domain.trial.states import TrialState


@dataclass(frozen=True)
class Curve:
    """The values of a trial by evaluation (from 1), not-a-number included, and where the trial stands."""

    state: TrialState
    values: Mapping[int, float]

    @property
    def compares(self) -> bool:
        """Whether its values mean something to others: not those of a trial that failed or was cancelled."""
        return not self.state.final or FINAL[self.state].teaches
