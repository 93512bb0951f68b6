"""Trials counted instead of listed: how many are in each state, and what device time they took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hpo_service.domain.trial.states import TrialState


@dataclass(frozen=True)
class Tally:
    """Numbers of trials by state; `timed` counts those that took device time, `seconds` is its sum."""

    trials: Mapping[TrialState, int] = field(default_factory=dict)
    timed: Mapping[TrialState, int] = field(default_factory=dict)
    seconds: Mapping[TrialState, float] = field(default_factory=dict)

    @classmethod
    def of(cls, trials: Iterable[tuple[TrialState, float]]) -> Tally:
        """Count trials, each given by its state and its device seconds."""
        each = list(trials)
        seconds: dict[TrialState, float] = {}
        for state, spent in each:
            seconds[state] = seconds.get(state, 0.0) + spent
        return cls(Counter(s for s, _ in each), Counter(s for s, spent in each if spent > 0), seconds)

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of both together."""
        return Tally(
            {state: self.trials.get(state, 0) + other.trials.get(state, 0) for state in TrialState},
            {state: self.timed.get(state, 0) + other.timed.get(state, 0) for state in TrialState},
            {state: self.seconds.get(state, 0.0) + other.seconds.get(state, 0.0) for state in TrialState},
        )

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.trials.values())

    @property
    def device_seconds(self) -> float:
        """Device time of all of them."""
        return sum(self.seconds.values())

    def count(self, *states: TrialState) -> int:
        """Count those in these states."""
        return sum(self.trials.get(state, 0) for state in states)

    def mean_seconds(self, *states: TrialState) -> float | None:
        """Mean device time of those in these states that took any; None where none did."""
        timed = sum(self.timed.get(state, 0) for state in states)
        return sum(self.seconds.get(state, 0.0) for state in states) / timed if timed else None
