"""Where the Trainer lets a monitor look at its steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from hpo_service.training.run.checkpoint import CheckpointStore, Running
from hpo_service.training.run.monitor import Monitor, Step


class MonitorCallback(TrainerCallback):
    """Shows every optimizer step of one Trainer to a monitor, and ends the training when the monitor says so."""

    def __init__(self, monitor: Monitor, store: CheckpointStore, clock: Callable[[], float]) -> None:
        self.scaler: Callable[[], Any] = lambda: None
        self._monitor, self._store, self._clock = monitor, store, clock
        self._mark = 0.0
        self._running: Running | None = None
        monitor.save = self._save

    def on_train_begin(self, *given: Any, **_: Any) -> None:
        """Start the clock of the first stretch of training."""
        _, state, _ = given
        self._monitor.begin(state.global_step, int(state.num_input_tokens_seen))
        self._mark = self._clock()

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        """Give a sign of life within an optimizer step, and leave at once where nothing is to be saved."""
        self._monitor.link.touch()
        self._monitor.link.check_unless_saving()

    def on_log(self, *given: Any, **live: Any) -> None:
        """Look at an optimizer step that has just been made: the Trainer logs each one."""
        _, state, control = given
        logs = live["logs"]
        if "loss" not in logs:
            return
        # The Trainer would keep a line per step and write them all into every checkpoint.
        state.log_history.clear()
        self._running = Running(live["model"], live["optimizer"], live["lr_scheduler"], state, self.scaler())
        self._monitor.observe(
            Step(
                number=state.global_step,
                loss=logs["loss"],
                learning_rate=logs.get("learning_rate", math.nan),
                grad_norm=logs.get("grad_norm", math.nan),
                tokens=int(state.num_input_tokens_seen),
                seconds=self._clock() - self._mark,
            )
        )
        control.should_training_stop = control.should_training_stop or self._monitor.early_end is not None
        self._mark = self._clock()

    def _save(self) -> None:
        running = self._running
        if running is not None:
            self._store.save(running.state.global_step, self._monitor.history, running.write)
