"""Weights & Biases as a tracker; its package is imported when a run starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hpo_service.domain.trial.endings import SAID
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.training.tracking.tracker import PATIENCE_SECONDS, TrackedRun, Tracker, figures


class WandB:
    """A run in Weights & Biases; WANDB_API_KEY, WANDB_BASE_URL, WANDB_ENTITY and WANDB_MODE say where and as whom."""

    def start(self, run: TrackedRun) -> None:
        """Open a run beside any other that this process has open."""
        import wandb

        # their console capture would take hold of the standard output that messages travel on
        settings = wandb.Settings(console="off", silent=True, init_timeout=PATIENCE_SECONDS, x_disable_stats=True)
        self._run = wandb.init(
            project=run.project,
            group=run.group,
            name=run.name,
            dir=str(run.folder),
            config=run.config,
            reinit="create_new",
            settings=settings,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queue scalars; they are sent in the background."""
        self._run.log(dict(metrics), step=step)

    def end(self, outcome: Outcome) -> None:
        """Write the summary and wait until everything is sent."""
        self._run.summary.update({**figures(outcome), "outcome": str(outcome.kind), "reason": outcome.reason})
        self._run.finish(exit_code=0 if SAID[outcome.kind].tracked == "FINISHED" else 1)


TRACKER: Callable[[], Tracker] = WandB
