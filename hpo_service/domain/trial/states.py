"""Which moves a trial may make: one pure table over every pair of state and event, and what holders say of an end."""

from __future__ import annotations

from enum import StrEnum


class TrialState(StrEnum):
    """Where a trial stands; the last five are final."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    INFEASIBLE = "infeasible"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether no worker will touch the trial again, unless a person retries it."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


class TrialEvent(StrEnum):
    """What can happen to a trial."""

    CLAIM = "claim"
    REPORT = "report"
    COMPLETE = "complete"
    PRUNE = "prune"
    INFEASIBLE = "infeasible"
    ERROR = "error"
    GIVE_UP = "give_up"
    RELEASE = "release"
    EXPIRE = "expire"
    CANCEL = "cancel"
    RETRY = "retry"


class OutcomeKind(StrEnum):
    """How an attempt ended, as its holder saw it."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    INFEASIBLE = "infeasible"
    ERROR = "error"
    RELEASED = "released"
    CANCELLED = "cancelled"


TRANSITIONS: dict[tuple[TrialState, TrialEvent], TrialState] = {
    # A waiting trial is taken by exactly one worker.
    (TrialState.WAITING, TrialEvent.CLAIM): TrialState.RUNNING,
    # Only the holder of a running trial writes about it.
    (TrialState.RUNNING, TrialEvent.REPORT): TrialState.RUNNING,
    (TrialState.RUNNING, TrialEvent.COMPLETE): TrialState.COMPLETE,
    (TrialState.RUNNING, TrialEvent.PRUNE): TrialState.PRUNED,
    (TrialState.RUNNING, TrialEvent.INFEASIBLE): TrialState.INFEASIBLE,
    # An attempt that ends without a result gives the trial back, number and checkpoint kept.
    (TrialState.RUNNING, TrialEvent.ERROR): TrialState.WAITING,
    (TrialState.RUNNING, TrialEvent.RELEASE): TrialState.WAITING,
    (TrialState.RUNNING, TrialEvent.EXPIRE): TrialState.WAITING,
    # Attempts are bounded.
    (TrialState.RUNNING, TrialEvent.GIVE_UP): TrialState.FAILED,
    # People may stop a trial at any time before its end, and have a failed or cancelled one tried again.
    (TrialState.WAITING, TrialEvent.CANCEL): TrialState.CANCELLED,
    (TrialState.RUNNING, TrialEvent.CANCEL): TrialState.CANCELLED,
    (TrialState.FAILED, TrialEvent.RETRY): TrialState.WAITING,
    (TrialState.CANCELLED, TrialEvent.RETRY): TrialState.WAITING,
}
"""Every legal move; a pair that is missing is refused."""


def next_state(state: TrialState, event: TrialEvent) -> TrialState | None:
    """Return the state after the event, or None where the move is refused."""
    return TRANSITIONS.get((state, event))


class StudyState(StrEnum):
    """What workers may do with a study.

    active: claim and run; draining: running trials end, none are claimed; paused: running trials are checkpointed
    and given back, none are claimed; cancelled, finished and failed are final (a cancelled one stops what runs).
    """

    ACTIVE = "active"
    PAUSED = "paused"
    DRAINING = "draining"
    CANCELLED = "cancelled"
    FINISHED = "finished"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether the study has ended."""
        return self in (StudyState.CANCELLED, StudyState.FINISHED, StudyState.FAILED)
