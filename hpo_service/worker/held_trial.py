"""A trial that this worker holds: its lease, how long the lease lasts, and what was asked of it."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.wire.messages import Admit

CHECKPOINT = "checkpoint"
"""Folder inside an attempt's own in which a child keeps what a later attempt may resume from."""
CONFIGURATION = "trial.json"
"""File beside it that says what the attempt was about; a checkpoint is handed on only to the same."""
COPIES = 2
"""How often a checkpoint is copied while a holder that is leaving still changes it."""

log = logging.getLogger(__name__)

_ENDS_AS: Mapping[str, OutcomeKind] = {
    "prune": OutcomeKind.PRUNED,
    "cancel": OutcomeKind.CANCELLED,
    "release": OutcomeKind.RELEASED,
    "abandon": OutcomeKind.RELEASED,
}


@dataclass
class HeldTrial:
    """Mutable state of one held trial; `expires` and `asked_at` are on the worker's own monotonic clock.

    Attributes:
        assignment: what was claimed.
        folder: of this attempt.
        expires: when the lease ends, unless the database prolongs it.
        progress: share of the training done, as last heard.
        last_value: measure of the last report.
        asked: the order to stop that was passed on to the child, if any.
        asked_at: when that was.
        over: the child is done with it; what is left is to tell the database.
        lost: the lease is somebody else's or nobody's: nothing more is written, and the child is to stop.
    """

    assignment: Assignment
    folder: Path
    expires: float
    progress: float = 0.0
    last_value: float | None = None
    asked: Decision | None = None
    asked_at: float = 0.0
    over: bool = False
    lost: bool = False

    @property
    def key(self) -> str:
        """Name of the trial in messages, unique among everything one child may hold."""
        return f"{self.assignment.study}/{self.assignment.key}/{self.assignment.attempt}"

    def order(self) -> Admit:
        """Return the order to train it, with which the facts of the study's models are asked for."""
        config = self.assignment.config
        models = [config.model.base, config.model.target] if config.model is not None else []
        return Admit(
            trial=self.key,
            config=config,
            folder=str(self.folder),
            describe=[name for name in models if name],
            slots=self.assignment.slots,
            measure=self.assignment.measure,
        )

    def as_asked(self, outcome: Outcome) -> Outcome:
        """Give an early end the kind and the reason for which it was asked; what the child adds to it stays."""
        if self.asked is None or outcome.kind in (OutcomeKind.COMPLETE, OutcomeKind.INFEASIBLE):
            return outcome
        kind = _ENDS_AS.get(self.asked.action, outcome.kind)
        value = outcome.value if outcome.value is not None else self.last_value
        reason = self.asked.reason
        if outcome.reason != reason:
            reason = outcome.reason if outcome.reason.startswith(reason) else f"{reason} ({outcome.reason})"
        return outcome.model_copy(update={"kind": kind, "reason": reason, "value": value})


def trial_folder(output: Path, assignment: Assignment) -> Path:
    """Return the folder of this attempt; every attempt has its own, so that a stale holder overwrites nothing."""
    return output / assignment.study / "trials" / assignment.key / f"attempt-{assignment.attempt}"


def prepare_folder(folder: Path, assignment: Assignment) -> bool:
    """Make the folder of an attempt, with the newest checkpoint of an earlier attempt in it.

    A study that was deleted, or whose database was, may have left checkpoints under the same names: one is taken
    only from an attempt with the same configuration, and what lies in this attempt's own place is removed. What
    cannot be written (disk full) is left out: the trial starts afresh.

    Returns:
        Whether there was a checkpoint.
    """
    about = assignment.config.model_dump_json(exclude_defaults=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
        (folder / CONFIGURATION).write_text(about)
    except OSError as error:
        log.warning("%s cannot be written, checkpoints of it may be lost: %s", folder, error)
    return any(
        _hand_over(folder.parent / f"attempt-{earlier}", folder, about)
        for earlier in range(assignment.attempt - 1, 0, -1)
    )


def _hand_over(earlier: Path, folder: Path, about: str) -> bool:
    """Copy a checkpoint beside its place, then move it there: a kill in between leaves none, never half of one."""
    source, partial = earlier / CHECKPOINT, folder / f"{CHECKPOINT}.partial"
    for _ in range(COPIES):
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if not source.is_dir() or (earlier / CONFIGURATION).read_text() != about:
                return False
            shutil.copytree(source, partial)
            partial.replace(folder / CHECKPOINT)
            return True
    shutil.rmtree(partial, ignore_errors=True)
    return False


def discard_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a trial that has ended, of all its attempts."""
    for checkpoint in folder.parent.glob(f"attempt-*/{CHECKPOINT}"):
        shutil.rmtree(checkpoint, ignore_errors=True)
