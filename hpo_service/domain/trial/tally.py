"""Trials counted instead of listed: how many are in each state, and what device time they took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hpo_service.domain.trial.states import TrialState


@dataclass(frozen=True)
class Tally:
    """Numbers of trials by state.

    Attributes:
        trials: how many there are.
        timed: how many took device time of their own.
        seconds: their device time.
        own: of that what they took themselves, without what was loaded or made for others too.
    """

    trials: Mapping[TrialState, int] = field(default_factory=dict)
    timed: Mapping[TrialState, int] = field(default_factory=dict)
    seconds: Mapping[TrialState, float] = field(default_factory=dict)
    own: Mapping[TrialState, float] = field(default_factory=dict)

    @classmethod
    def of(cls, trials: Iterable[tuple[TrialState, float, float]]) -> Tally:
        """Count trials, each given by its state, its device seconds and those that it took itself."""
        each = list(trials)
        seconds: dict[TrialState, float] = defaultdict(float)
        own: dict[TrialState, float] = defaultdict(float)
        for state, spent, itself in each:
            seconds[state] += spent
            own[state] += itself
        return cls(Counter(s for s, *_ in each), Counter(s for s, _, itself in each if itself > 0), seconds, own)

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of both together."""
        return Tally(
            {state: self.trials.get(state, 0) + other.trials.get(state, 0) for state in TrialState},
            {state: self.timed.get(state, 0) + other.timed.get(state, 0) for state in TrialState},
            {state: self.seconds.get(state, 0.0) + other.seconds.get(state, 0.0) for state in TrialState},
            {state: self.own.get(state, 0.0) + other.own.get(state, 0.0) for state in TrialState},
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
        """Mean of the device time that those in these states took themselves; None where none took any."""
        timed = sum(self.timed.get(state, 0) for state in states)
        return sum(self.own.get(state, 0.0) for state in states) / timed if timed else None
