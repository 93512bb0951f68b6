"""MLflow as a tracker; its package is imported when a run starts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from hpo_service.domain.trial.endings import SAID
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.training.tracking.tracker import PATIENCE_SECONDS, TrackedRun, Tracker, figures

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


TRACKER: Callable[[], Tracker] = MLflow
