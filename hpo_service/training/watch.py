"""The eyes on a run: evaluates at the planned steps, reports, obeys, and ends what is lost or exhausted."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainerCallback, TrainerState

from hpo_service.channel import TrialLink
from hpo_service.domain.training_spec import TrainingSpec
from hpo_service.domain.trial import OutcomeKind, Report, Scores
from hpo_service.training.checkpoint import CheckpointStore, Running
from hpo_service.training.course import Course
from hpo_service.training.plan import Plan
from hpo_service.training.record import peak_memory_gb

# A checkpoint is written after every evaluation, unless one takes longer than this many seconds: then only as
# often as keeps writing them under this share of the time.
CHEAP_CHECKPOINT_SECONDS = 1.0
CHECKPOINT_SHARE = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
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
class Watch(TrainerCallback):
    """Sees every optimizer step of one run; after `train()` returns, `ending` says why it ended early, if it did."""

    link: TrialLink
    spec: TrainingSpec
    plan: Plan
    course: Course
    store: CheckpointStore
    score: Callable[[], Scores]
    scaler: Callable[[], Any] = lambda: None
    clock: Callable[[], float] = time.monotonic
    ending: Ending | None = None
    scores: Scores | None = None
    checkpoint_warning: str = ""
    seconds: Seconds = field(default_factory=Seconds)
    _mark: float = 0.0
    _saved_at: float = 0.0
    _save_seconds: float = 0.0
    _stretch_seconds: float = 0.0
    _stretch_tokens: int = 0

    def on_train_begin(self, *given: Any, **_: Any) -> None:
        """Start the clock of the first stretch of training."""
        _, state, _ = given
        self._mark = self._saved_at = self.clock()
        self._stretch_tokens = int(state.num_input_tokens_seen)

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        """Give a sign of life within an optimizer step, and leave at once where nothing is to be saved."""
        self.link.touch()
        self.link.check_unless_saving()

    def on_log(self, *given: Any, **live: Any) -> None:
        """Look at an optimizer step that has just been made: the Trainer logs each one."""
        _, state, control = given
        logs = live["logs"]
        if "loss" not in logs:
            return
        # The Trainer would keep a line per step and write them all into every checkpoint.
        state.log_history.clear()
        spent = self.clock() - self._mark
        self.seconds.train += spent
        self._stretch_seconds += spent
        self.link.touch(state.global_step / self.plan.steps, "training")
        self._look(state, logs)
        self._obey_and_save(state, live)
        control.should_training_stop = control.should_training_stop or self.ending is not None
        self._mark = self.clock()

    def _look(self, state: TrainerState, logs: dict[str, float]) -> None:
        lost = self.course.add_loss(logs["loss"])
        if lost:
            self.ending = Ending(OutcomeKind.PRUNED, lost)
            return
        due = self.plan.due(state.global_step)
        if due:
            self._evaluate(due, state, logs)

    def _evaluate(self, due: range, state: TrainerState, logs: dict[str, float]) -> None:
        began = self.clock()
        self.scores = self.score()
        self.seconds.evaluate += self.clock() - began
        value = self.scores.mean
        lost = self.course.add_value(value, self.plan.fraction(due[-1]), self.spec.min_improvement)
        if math.isfinite(value):
            metrics = self._metrics(state, logs)
            for number in due:
                if self._report(Report(step=number, fraction=self.plan.fraction(number), value=value, metrics=metrics)):
                    return
        if lost:
            self.ending = Ending(OutcomeKind.PRUNED, lost)
        elif state.global_step < self.plan.steps:
            exhausted = self.course.exhausted(self.spec.patience, self.spec.min_improvement)
            self.ending = Ending(OutcomeKind.COMPLETE, exhausted) if exhausted else None

    def _report(self, report: Report) -> bool:
        """Send one report and wait; tell whether the answer was to stop."""
        began = self.clock()
        stop = self.link.report(report)
        self.seconds.wait += self.clock() - began
        if stop is not None:
            self.ending = Ending(None, stop.reason)
        return stop is not None

    def _metrics(self, state: TrainerState, logs: dict[str, float]) -> dict[str, float]:
        tokens, seconds = int(state.num_input_tokens_seen) - self._stretch_tokens, self._stretch_seconds
        self._stretch_tokens, self._stretch_seconds = int(state.num_input_tokens_seen), 0.0
        return {
            "train_loss": self.course.take_train_loss(),
            "learning_rate": logs.get("learning_rate", math.nan),
            "grad_norm": logs.get("grad_norm", math.nan),
            "tokens_per_second": tokens / seconds if seconds > 0 else math.nan,
            "seconds": self.seconds.train + self.seconds.evaluate,
            "memory_gb": peak_memory_gb(),
        }

    def _obey_and_save(self, state: TrainerState, live: dict[str, Any]) -> None:
        stop = self.link.stop()
        if stop is not None and self.ending is None:
            self.ending = Ending(None, stop.reason)
        ordered = stop is not None and stop.checkpoint and self.ending is not None and self.ending.kind is None
        periodic = self.ending is None and bool(self.plan.due(state.global_step)) and self._affordable()
        if ordered or periodic:
            self._save(state, live)

    def _affordable(self) -> bool:
        dear = self._save_seconds > CHEAP_CHECKPOINT_SECONDS
        return not dear or self._save_seconds <= CHECKPOINT_SHARE * (self.clock() - self._saved_at)

    def _save(self, state: TrainerState, live: dict[str, Any]) -> None:
        began = self.clock()
        running = Running(live["model"], live["optimizer"], live["lr_scheduler"], state, self.scaler())
        try:
            with self.link.busy("saving a checkpoint"):
                self.store.save(running, self.course)
            self.checkpoint_warning = ""
        except OSError as error:
            # The trial goes on: what a full disk costs is the checkpoint.
            self.checkpoint_warning = " ".join(str(error).split())
            log.warning("trial %s: no checkpoint could be written: %s", self.link.trial, self.checkpoint_warning)
        self._saved_at = self.clock()
        self._save_seconds = self._saved_at - began
        self.seconds.checkpoint += self._save_seconds
