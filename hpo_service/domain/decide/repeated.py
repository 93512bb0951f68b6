"""Whether one cause ends trial after trial: then the fault is in what they share, and more would only be spent."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from hpo_service.domain.decide.retry import cause_of

IN_A_ROW = 3
"""Trials that one cause must cost with no success in between: two may be bad luck."""

# Numbers, paths and names with a number in them tell one trial from another, not one cause from another.
_PARTICULAR = re.compile(r"\S*[\d/]\S*")


@dataclass(frozen=True)
class Failure:
    """A trial that an error cost, or nearly, the worker that had it last, and why in its words."""

    trial_id: int
    worker_id: str
    reason: str


@dataclass(frozen=True)
class Repeated:
    """A cause that ended several trials, in the words of the last, and these trials; the latest first."""

    cause: str
    failures: tuple[Failure, ...]


def repeated(failures: Iterable[Failure]) -> Repeated | None:
    """Return the cause that enough of the failures share, or None.

    Args:
        failures: of different trials, since the last success, the latest first.
    """
    by_cause: dict[str, list[Failure]] = defaultdict(list)
    for failure in failures:
        by_cause[same_for_all(cause_of(failure.reason))].append(failure)
    most = max(by_cause.values(), key=len, default=[])
    return Repeated(cause_of(most[0].reason), tuple(most)) if len(most) >= IN_A_ROW else None


def same_for_all(reason: str) -> str:
    """Leave out of a reason what differs between trials with the same cause."""
    return _PARTICULAR.sub("*", reason).casefold()
