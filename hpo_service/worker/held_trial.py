"""A trial that this worker holds: its lease, how long the lease lasts, and the order to stop it, if there is one."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.wire.attempt_folder import AttemptFolder


@dataclass
class HeldTrial:
    """Mutable state of one held trial; `expires` and `ordered_at` are on the worker's own monotonic clock.

    Attributes:
        assignment: what was claimed.
        folder: of this attempt.
        expires: when the lease ends, unless the database prolongs it.
        progress: share of the training done, as last heard.
        last_value: measure of the last report.
        order: the decision to stop that was passed on to the child, if any.
        ordered_at: when that was.
        over: the child is done with it; what is left is to tell the database.
        lost: the lease is somebody else's or nobody's: nothing more is written, and the child is to stop.
        started: the child has said something of it.
        unasked: it was given back though nobody had asked for that: its child was ended from outside.
    """

    assignment: Assignment
    folder: AttemptFolder
    expires: float
    progress: float = 0.0
    last_value: float | None = None
    order: Decision | None = None
    ordered_at: float = 0.0
    over: bool = False
    lost: bool = False
    started: bool = False
    unasked: bool = False

    @property
    def key(self) -> str:
        """Name of the trial in messages, unique among everything one child may hold."""
        return self.assignment.name

    def broken_off(self, kind: OutcomeKind, reason: str, *, retryable: bool = True) -> Outcome:
        """How the attempt ends where its child cannot say so itself (it failed, or was killed).

        One that was on its way to an ordered end has come to it; any other ends in the kind given.
        """
        ordered = self.order.ends_as if self.order is not None else None
        if self.order is None or ordered is None:
            return Outcome(kind=kind, reason=reason, retryable=retryable)
        if not reason.startswith(self.order.reason):
            reason = f"{self.order.reason} ({reason})"
        return Outcome(kind=ordered, reason=reason, value=self.last_value)
