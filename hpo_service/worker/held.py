"""A trial that this worker holds: its lease, how long the lease lasts, and what was asked of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo_service.domain.trial import Assignment, Decision, Outcome, OutcomeKind

_ENDS_AS: Mapping[str, OutcomeKind] = {
    "prune": OutcomeKind.PRUNED,
    "cancel": OutcomeKind.CANCELLED,
    "release": OutcomeKind.RELEASED,
    "abandon": OutcomeKind.RELEASED,
}


@dataclass
class HeldTrial:
    """Mutable state of one held trial; `expires` is on the worker's own monotonic clock."""

    assignment: Assignment
    folder: Path
    expires: float
    progress: float = 0.0
    last_value: float | None = None
    asked: Decision | None = None
    over: bool = False

    @property
    def key(self) -> str:
        """Name of the trial in messages, unique among everything one child may hold."""
        return f"{self.assignment.study}/{self.assignment.key}/{self.assignment.attempt}"

    def as_asked(self, outcome: Outcome) -> Outcome:
        """Give an early end the kind and the reason for which it was asked."""
        if self.asked is None or outcome.kind in (OutcomeKind.COMPLETE, OutcomeKind.INFEASIBLE):
            return outcome
        kind = _ENDS_AS.get(self.asked.action, outcome.kind)
        value = outcome.value if outcome.value is not None else self.last_value
        return outcome.model_copy(update={"kind": kind, "reason": self.asked.reason, "value": value})


def trial_folder(output: Path, assignment: Assignment) -> Path:
    """Return the folder of this attempt; every attempt has its own, so that a stale holder overwrites nothing."""
    return output / assignment.study / "trials" / assignment.key / f"attempt-{assignment.attempt}"


def hand_over_checkpoint(folder: Path, attempt: int) -> bool:
    """Copy the newest checkpoint of an earlier attempt into this attempt's folder, atomically.

    Returns:
        Whether there was one. A checkpoint that cannot be copied (disk full) is left out: the trial starts afresh.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in range(attempt - 1, 0, -1):
        source = folder.parent / f"attempt-{earlier}" / "checkpoint"
        if not source.is_dir():
            continue
        partial = folder / "checkpoint.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source, partial)
            os.replace(partial, folder / "checkpoint")
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            continue
        return True
    return False


def discard_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a trial that has ended, of all its attempts."""
    for checkpoint in folder.parent.glob("attempt-*/checkpoint"):
        shutil.rmtree(checkpoint, ignore_errors=True)
