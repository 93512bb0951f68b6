"""What a run has shown so far, and when that is enough to end it: divergence and patience."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# A run is lost once its loss is this many times the first: a quarter of random configurations are.
DIVERGED = 3.0
# Steps over which the training loss is averaged before it is compared; one odd batch ends nothing.
SMOOTHED_STEPS = 5
# A base that already knows the data starts near 0, where three times is noise; in nats.
LEAST_FIRST_LOSS = 0.1
# Steps that float16's loss scaler may skip in a row: it starts at 2**16, and halves for each gradient that overflows.
SCALER_TRIES = 20


@dataclass
class History:
    """The memory of a run; plain numbers only, so that a checkpoint can carry it exactly."""

    first_loss: float | None = None
    recent: list[float] = field(default_factory=list)
    since_report: list[float] = field(default_factory=list)
    value: float | None = None
    best: float | None = None
    reference: float | None = None
    without_improvement: int = 0
    evaluations: int = 0
    bad_norms: int = 0
    history: list[list[float]] = field(default_factory=list)

    def add_loss(self, loss: float) -> str:
        """Take the training loss of one optimizer step; return why the run is lost, or nothing."""
        if not math.isfinite(loss):
            return f"diverged: the training loss became {loss}"
        if self.first_loss is None:
            self.first_loss = loss
        self.since_report.append(loss)
        self.recent = [*self.recent, loss][-SMOOTHED_STEPS:]
        return self._too_high(sum(self.recent) / len(self.recent), "training")

    def add_norm(self, norm: float, tries: int = 1) -> str:
        """Take the gradient norm of a step; return why the run is lost, or nothing.

        A step that is not finite leaves no weight finite, unless a loss scaler skips it: it is given some `tries`.
        """
        self.bad_norms = 0 if math.isfinite(norm) else self.bad_norms + 1
        if self.bad_norms < tries:
            return ""
        in_a_row = f" in {tries} steps in a row" if tries > 1 else ""
        return f"diverged: the gradient norm became {norm}{in_a_row}"

    def add_value(self, value: float, fraction: float, min_improvement: float) -> str:
        """Take an evaluation; return why the run is lost, or nothing."""
        if not math.isfinite(value):
            return f"diverged: the validation loss became {value}"
        self.evaluations += 1
        self.value = value
        self.history.append([fraction, value])
        self.best = value if self.best is None else min(self.best, value)
        if self.reference is None or value < self.reference - min_improvement:
            self.reference, self.without_improvement = value, 0
        else:
            self.without_improvement += 1
        return self._too_high(value, "validation")

    def exhausted(self, patience: int, min_improvement: float) -> str:
        """Why going on is not worth it, or nothing; a patience of 0 never ends a run."""
        if patience and self.without_improvement >= patience:
            return f"no improvement of {min_improvement:g} in {patience} evaluations"
        return ""

    def take_train_loss(self) -> float:
        """Mean training loss since the last report, NaN where there was no step; starts the next stretch."""
        losses, self.since_report = self.since_report, []
        return sum(losses) / len(losses) if losses else math.nan

    def _too_high(self, loss: float, which: str) -> str:
        first = max(self.first_loss or 0.0, LEAST_FIRST_LOSS)
        if loss <= DIVERGED * first:
            return ""
        return f"diverged: the {which} loss {loss:.4g} is more than {DIVERGED:g} times the first, {first:.4g}"
