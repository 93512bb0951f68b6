"""TensorBoard as a tracker; its package is imported when a run starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hpo_service.domain.trial.outcome import Outcome
from hpo_service.training.tracking.tracker import TrackedRun, Tracker, figures


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


TRACKER: Callable[[], Tracker] = TensorBoard
