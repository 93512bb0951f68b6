"""What an objective of the user's own is given: its parameters, and how to report, stop and resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.trial.report import Report
from hpo_service.errors import TrialError
from hpo_service.objective.checkpoint import copy_to_store
from hpo_service.wire.child import Stopped, TrialLink

COPY_SECONDS = 30.0
"""Shortest time between two copies of what an objective has saved to the store; the last is made when it ends."""


class TrialContext:
    """One trial, as its function sees it.

    A function reports its measure as it goes, asks `should_stop()` after each report and returns the final value:

        def objective(trial: TrialContext) -> float:
            for step in range(1, 11):
                loss = train_a_little(trial.parameters["learning_rate"])
                trial.report(step, loss)
                if trial.should_stop():
                    break
            return loss
    """

    def __init__(self, link: TrialLink, clock: Callable[[], float] = time.monotonic) -> None:
        self._link, self._clock, self._copy_at = link, clock, 0.0
        self._expected = link.config.training.evaluations_per_epoch * link.config.training.epochs

    @property
    def parameters(self) -> Mapping[str, ParameterValue]:
        """The values of this trial, by name."""
        return self._link.config.parameters

    @property
    def seed(self) -> int:
        """The seed this trial should use; confirmation runs differ only in it."""
        return self._link.config.seed

    @property
    def checkpoint_folder(self) -> Path:
        """Where to save what a later attempt should find; it holds what an earlier attempt saved there.

        Write to another name first and rename, so that a kill leaves the old checkpoint whole.
        """
        folder = self._link.folder.checkpoint
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def report(
        self,
        step: int,
        value: float,
        *,
        fraction: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Report the measure at a step; it is stored, and may end the trial early.

        Args:
            step: counts reports from 1.
            value: what the study minimises (or maximises).
            fraction: share of the trial done, in [0, 1]; left out, step over the study's
                `training.evaluations_per_epoch` x `training.epochs`.
            metrics: further measures to keep beside it.

        Raises:
            Stopped: the trial was told to stop at an earlier report and went on; do not catch it.
        """
        self._link.check()
        share = step / self._expected if fraction is None else fraction
        share = min(1.0, max(0.0, share))
        self._link.touch(share)
        self._link.report(_report(step=step, fraction=share, value=value, metrics=dict(metrics or {})))
        if self._clock() >= self._copy_at:
            copy_to_store(self._link)
            self._copy_at = self._clock() + COPY_SECONDS

    def should_stop(self) -> bool:
        """Whether to end now: pruned, cancelled, or the worker is leaving; save a checkpoint and return."""
        self._link.touch()
        return self._link.stop() is not None


def _report(step: int, fraction: float, value: float, metrics: dict[str, float]) -> Report:
    try:
        return Report(step=step, fraction=fraction, value=value, metrics=metrics)
    except (ValidationError, OverflowError) as error:
        raise TrialError(
            f"report(step={str(step)[:40]}, value={str(value)[:40]}) is not possible: "
            "step is a whole number from 0 below 2^31, value and metrics are numbers"
        ) from error


__all__ = ["Stopped", "TrialContext"]
