"""TensorBoard, Weights & Biases and MLflow, each as a tracker of ours; their packages are imported when one starts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from hpo_service.domain.trial.endings import SAID
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.training.tracking.tracker import TrackedRun, Tracker, figures

# Seconds a tracker's server may take to answer before the trial goes on without it.
PATIENCE_SECONDS = 30


class TensorBoard:
    """Event files in the attempt's folder: `tensorboard --logdir hpo-output` finds them all."""

    def start(self, run: TrackedRun) -> None:
        """Open the files, and write the configuration as text."""
        from torch.utils.tensorboard import SummaryWriter

        self._config = run.config
        self._writer = SummaryWriter(str(run.folder / "tensorboard"))
        self._files: Any = self._writer.file_writer
        lines = [f"| {name} | {value} |" for name, value in run.config.items()]
        self._writer.add_text("config", "\n".join(["| | |", "|---|---|", *lines]))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write scalars, and flush: a run may be killed at any moment."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, outcome: Outcome) -> None:
        """Write what the hyper-parameter page of TensorBoard shows, and the reason of the end."""
        from torch.utils.tensorboard.summary import hparams

        shown = {k: v if isinstance(v, str | int | float) else str(v) for k, v in self._config.items()}
        for summary in hparams(shown, {f"final/{name}": value for name, value in figures(outcome).items()}):
            self._files.add_summary(summary)
        for name, value in figures(outcome).items():
            self._writer.add_scalar(f"final/{name}", value)
        self._writer.add_text("end", f"{outcome.kind}: {outcome.reason}")
        self._writer.close()


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


MLFLOW_LONGEST = 500


class MLflow:
    """A run in MLflow; MLFLOW_TRACKING_URI and its kin say where and as whom."""

    def start(self, run: TrackedRun) -> None:
        """Open a run in the experiment of the project, which is made where it is missing."""
        # a server that is away must not hold the trial up for minutes, as seven tries would
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE_SECONDS))
        from mlflow import MlflowClient

        self._client = MlflowClient()
        experiment = self._experiment(run.project)
        opened = self._client.create_run(experiment, run_name=run.name, tags={"group": run.group})
        self._run = str(opened.info.run_id)
        for name, value in run.config.items():
            self._client.log_param(self._run, name, str(value)[:MLFLOW_LONGEST])

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:  # else another worker was faster
                    raise
        return str(found.experiment_id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send scalars."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, _mlflow_name(name), value, step=step)

    def end(self, outcome: Outcome) -> None:
        """Send the final numbers, and how and why the run ended."""
        for name, value in figures(outcome).items():
            self._client.log_metric(self._run, _mlflow_name(f"final.{name}"), value)
        self._client.set_tag(self._run, "outcome", str(outcome.kind))
        self._client.set_tag(self._run, "reason", outcome.reason[:MLFLOW_LONGEST])
        self._client.set_terminated(self._run, SAID[outcome.kind].tracked)


def _mlflow_name(name: str) -> str:
    # what MLflow takes in a name
    return re.sub(r"[^\w./ -]", ".", name)


TRACKERS: dict[str, Callable[[], Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
"""Trackers that a study file may name."""
