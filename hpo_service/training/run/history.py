"""What a run has shown so far, and when that is enough to end it: divergence and patience."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from hpo_service.training.run.divergence import FIRST_STEPS, LAST_STEPS, LEAST_LEVEL, blown_up

# A run is lost once a validation loss is this many times the middle of its first ones: all are of the same rows.
DIVERGED = 3.0
FIRST_EVALUATIONS = 3
# Steps that float16's loss scaler may skip in a row: it starts at 2**16, and halves for each gradient that overflows.
SCALER_TRIES = 20


@dataclass
class History:
    """The memory of a run; plain numbers only, so that a checkpoint can carry it exactly."""

    first: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    steps: int = 0
    since_report: list[float] = field(default_factory=list)
    value: float | None = None
    best: float | None = None
    reference: float | None = None
    without_improvement: int = 0
    evaluations: int = 0
    bad_norms: int = 0
    history: list[list[float]] = field(default_factory=list)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Take what a checkpoint has stored: what another version knew alone is left out, the rest begins anew."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})

    def add_loss(self, loss: float) -> str:
        """Take the training loss of one optimizer step; return why the run is lost, or nothing."""
        if not math.isfinite(loss):
            return f"diverged: the training loss became {loss}"
        self.steps += 1
        if self.steps <= FIRST_STEPS:
            self.first.append(loss)
        self.since_report.append(loss)
        self.recent = [*self.recent, loss][-LAST_STEPS:]
        return blown_up(self.first, self.recent, self.steps)

    def add_norm(self, norm: float, tries: int = 1) -> str:
        """Take the gradient norm of a step; return why the run is lost, or nothing.

        A step that is not finite leaves no weight finite, unless a loss scaler skips it: it is given some `tries`.
        """
        self.bad_norms = 0 if math.isfinite(norm) else self.bad_norms + 1
        if self.bad_norms < tries:
            return ""
        in_a_row = f" in {tries} steps in a row" if tries > 1 else ""
        return f"diverged: the gradient norm became {norm}{in_a_row}"

    def add_value(self, value: float, fraction: float, min_improvement: float, whole: float | None = None) -> str:
        """Take an evaluation; return why the run is lost, or nothing.

        Args:
            value: the loss on the rows that are watched; all that is compared here is of these.
            fraction: of the run.
            min_improvement: what counts as an improvement.
            whole: the loss on all rows, where that is another one.
        """
        said = value if whole is None else whole
        if not math.isfinite(said):
            return f"diverged: the validation loss became {said}"
        earlier = [each for _, each in self.history[:FIRST_EVALUATIONS]]
        self.evaluations += 1
        self.value = said
        self.history.append([fraction, value])
        self.best = value if self.best is None else min(self.best, value)
        if self.reference is None or value < self.reference - min_improvement:
            self.reference, self.without_improvement = value, 0
        else:
            self.without_improvement += 1
        return _too_high(value, earlier)

    def exhausted(self, patience: int, min_improvement: float) -> str:
        """Why going on is not worth it, or nothing; a patience of 0 never ends a run."""
        if patience and self.without_improvement >= patience:
            return f"no improvement of {min_improvement:g} in {patience} evaluations"
        return ""

    def take_train_loss(self) -> float:
        """Mean training loss since the last report, NaN where there was no step; starts the next stretch."""
        losses, self.since_report = self.since_report, []
        return sum(losses) / len(losses) if losses else math.nan


def _too_high(value: float, earlier: list[float]) -> str:
    level = max(statistics.median(earlier), LEAST_LEVEL) if earlier else math.inf
    if value <= DIVERGED * level:
        return ""
    return f"diverged: the validation loss {value:.4g} is more than {DIVERGED:g} times that at first, {level:.4g}"
