"""Watches a run: evaluates at the planned steps, reports, follows orders, and ends what is lost or exhausted."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.scores import Scores
from hpo_service.training.device.environment import peak_memory_gb
from hpo_service.training.run.history import History
from hpo_service.training.run.steps import StepPlan
from hpo_service.training.tracking.trackers import Trackers
from hpo_service.wire.child import TrialLink

# A checkpoint is written after every evaluation, unless one takes longer than this many seconds: then only as
# often as keeps writing them under this share of the time.
CHEAP_CHECKPOINT_SECONDS = 1.0
CHECKPOINT_SHARE = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """An optimizer step that was made.

    `number` counts from 1; `loss` is the mean NLL per supervised token of its rows in nats; `grad_norm` is that before
    clipping; `tokens` are those seen so far, padding left out; `seconds` are those spent on training since the last.
    """

    number: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class EarlyEnd:
    """Why a run ended; without a kind it obeyed an order to stop, which the link keeps."""

    kind: OutcomeKind | None
    reason: str


@dataclass
class Seconds:
    """Wall seconds of one attempt by what they were spent on."""

    train: float = 0.0
    evaluate: float = 0.0
    wait: float = 0.0
    checkpoint: float = 0.0


@dataclass
class Monitor:
    """Looks at every optimizer step of one run; `early_end` says why it is to end early, if it is.

    `score` evaluates the model as it is, on all validation rows (True) or on those that are watched (False), which are
    the first `watched` of all, or all (None); `scores` are those of all rows, once they are known. `save` writes a
    checkpoint or raises OSError; `trackers` are told of every report. So many gradients in a row as `bad_norms` says
    that are not finite end the run.
    """

    link: TrialLink
    spec: TrainingSpec
    plan: StepPlan
    history: History
    score: Callable[[bool], Scores]
    save: Callable[[], object]
    clock: Callable[[], float] = time.monotonic
    bad_norms: int = 1
    watched: int | None = None
    early_end: EarlyEnd | None = None
    scores: Scores | None = None
    checkpoint_warning: str = ""
    seconds: Seconds = field(default_factory=Seconds)
    steps: int = 0
    tokens: int = 0
    trackers: Trackers = field(default_factory=Trackers)
    _saved_at: float | None = None
    _save_seconds: float = 0.0
    _stretch_seconds: float = 0.0
    _stretch_tokens: int = 0

    def begin(self, steps: int, tokens: int) -> None:
        """Start where a checkpoint left off: after so many steps, having seen so many tokens."""
        self.steps = steps
        self.tokens = self._stretch_tokens = tokens
        self._saved_at = self.clock()

    def observe(self, step: Step) -> None:
        """Take a step: evaluate and report where it is time, obey, save, and decide whether the run goes on."""
        self.steps, self.tokens = step.number, step.tokens
        self.seconds.train += step.seconds
        self._stretch_seconds += step.seconds
        self.link.touch(step.number / self.plan.steps, "training")
        lost = self.history.add_loss(step.loss) or self.history.add_norm(step.grad_norm, self.bad_norms)
        if lost:
            self.early_end = EarlyEnd(OutcomeKind.PRUNED, lost)
        elif due := self.plan.due(step.number):
            self._evaluate(due, step)
        self._stop_or_save()

    def _evaluate(self, due: range, step: Step) -> None:
        began = self.clock()
        whole = self.watched is None or step.number == self.plan.steps
        scores = self.score(whole)
        self.seconds.evaluate += self.clock() - began
        self.scores, value = scores if whole else None, scores.mean
        # of all rows those that were watched go on with the curve: patience and divergence compare like with like
        seen, fraction = scores.first(self.watched).mean, self.plan.fraction(due[-1])
        lost = self.history.add_value(seen, fraction, self.spec.min_improvement, value)
        if math.isfinite(value):
            metrics = self._metrics(step)
            for number in due:
                if self._report(Report(step=number, fraction=self.plan.fraction(number), value=value, metrics=metrics)):
                    return
        if lost:
            self.early_end = EarlyEnd(OutcomeKind.PRUNED, lost)
        elif step.number < self.plan.steps:
            exhausted = self.history.exhausted(self.spec.patience, self.spec.min_improvement)
            self.early_end = EarlyEnd(OutcomeKind.COMPLETE, exhausted) if exhausted else None

    def _report(self, report: Report) -> bool:
        """Send one report and wait; tell whether the answer was to stop."""
        began = self.clock()
        stop = self.link.report(report)
        self.trackers.log(report)
        self.seconds.wait += self.clock() - began
        if stop is not None:
            self.early_end = EarlyEnd(None, stop.reason)
        return stop is not None

    def _metrics(self, step: Step) -> dict[str, float]:
        tokens, seconds = step.tokens - self._stretch_tokens, self._stretch_seconds
        self._stretch_tokens, self._stretch_seconds = step.tokens, 0.0
        return {
            "train_loss": self.history.take_train_loss(),
            "learning_rate": step.learning_rate,
            "grad_norm": step.grad_norm,
            "tokens_per_second": tokens / seconds if seconds > 0 else math.nan,
            "seconds": self.seconds.train + self.seconds.evaluate,
            "train_seconds": self.seconds.train,
            "memory_gb": peak_memory_gb(),
        }

    def _stop_or_save(self) -> None:
        stop = self.link.stop()
        if stop is not None and self.early_end is None:
            self.early_end = EarlyEnd(None, stop.reason)
        ordered = stop is not None and stop.saves and self.early_end is not None and self.early_end.kind is None
        periodic = self.early_end is None and bool(self.plan.due(self.steps)) and self._affordable()
        if ordered or periodic:
            self._save()

    def _affordable(self) -> bool:
        dear = self._save_seconds > CHEAP_CHECKPOINT_SECONDS
        since = self.clock() - (self._saved_at or 0.0)
        return not dear or self._save_seconds <= CHECKPOINT_SHARE * since

    def _save(self) -> None:
        began = self.clock()
        try:
            with self.link.busy("saving a checkpoint"):
                self.save()
            self.checkpoint_warning = ""
        except OSError as error:
            # The trial goes on: what a full disk costs is the checkpoint.
            warning = " ".join(str(error).split())
            if not self.checkpoint_warning:
                self.link.checkpoint_lost(warning)
            self.checkpoint_warning = warning
            log.warning("trial %s: no checkpoint could be kept: %s", self.link.trial, warning)
        self._saved_at = self.clock()
        self._save_seconds = self._saved_at - began
        self.seconds.checkpoint += self._save_seconds
