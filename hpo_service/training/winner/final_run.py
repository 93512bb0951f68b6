"""A full run of the winner: `python -m hpo_service.training.winner.final_run` answers one request.

It reads `{"config", "folder", "cache"}`, trains that configuration on the training and validation rows of its
study, and scores the test rows after each epoch, on which nothing depends. A run that broke off goes on from its last
checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpo_service.domain.trial.assignment import Assignment, Lease
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.errors import TrialError
from hpo_service.training.data.rows import StudyRows
from hpo_service.training.data.tokens import TokenRows
from hpo_service.training.engines.solo import SoloEngine
from hpo_service.training.models.base import Base
from hpo_service.training.run.loaded_models import LoadedModels
from hpo_service.training.winner.answering import answer_with, tell
from hpo_service.wire.child import Channel, TrialLink
from hpo_service.wire.messages import Admit, CheckpointLost, Continue, Reported, Started

SECONDS = 3600.0
"""Of the lease and of silence, which nobody watches here."""


@dataclass
class AllRows(LoadedModels):
    """Rows whose validation part is trained on too; the test part is scored in its place."""

    def rows(self, link: TrialLink, base: Base) -> StudyRows:
        """The rows of the study, its validation rows behind its training rows."""
        found = super().rows(link, base)
        return replace(found, train=joined(found.train, found.validation), validation=found.test)


def joined(*parts: TokenRows) -> TokenRows:
    """Lay the rows of several parts behind each other."""
    return TokenRows.of([row for part in parts for row in part])


class Alone(Channel):
    """In place of a supervisor: every report is answered with going on, and progress is told on standard error."""

    def __init__(self, tell: Callable[[str, float | None], object] = tell) -> None:
        """Answer by oneself, with no thread and no pipe."""
        self.link: TrialLink | None = None
        self.reports: list[Report] = []
        self._tell, self._told = tell, -1

    def send(self, message: Any) -> None:
        """Keep reports, and tell what a person would want to know."""
        if isinstance(message, Reported):
            self.reports.append(message.report)
            self._tell(f"test loss {message.report.value:.4f}", message.report.fraction)
        elif isinstance(message, CheckpointLost):
            self._tell(f"warning: {message.reason}", None)
        elif isinstance(message, Started) and message.resumed_at:
            self._tell("resumed from a checkpoint", message.resumed_at)

    def touch(self, progress: Mapping[str, float] | None = None, activity: str = "") -> None:
        """Tell each percent that is done."""
        percent = int(100 * max(progress.values())) if progress else self._told
        if percent > self._told:
            self._told = percent
            self._tell(activity or "training", percent / 100)

    @contextmanager
    def busy(self, activity: str, limit: float = 0.0) -> Iterator[None]:
        """Tell what takes long; nobody is there whom a limit would serve."""
        del limit
        self._tell(activity, None)
        yield

    def hear(self, timeout: float | None) -> bool:
        """Answer the last report, where an answer is waited for."""
        if timeout == 0 or self.link is None:
            return False
        self.link.receive(Continue(trial=self.link.trial))
        return True


def train(request: dict[str, Any]) -> dict[str, Any]:
    """Train the configuration of a request, and say where the weights are and what was measured.

    Raises:
        TrialError: it cannot be trained here, or it diverged.
    """
    config = TrialConfig.model_validate(request["config"])
    return run(config, Path(request["folder"]), Path(request["cache"]))


def run(config: TrialConfig, folder: Path, cache: Path, channel: Alone | None = None) -> dict[str, Any]:
    """Train a configuration in a folder, from its checkpoint where there is one."""
    assignment = Assignment(
        lease=Lease(trial_id=0, token=0),
        study=config.study,
        stage=config.stage,
        number=0,
        attempt=1,
        config=config,
        lease_seconds=SECONDS,
        hang_seconds=SECONDS,
        identity=f"final run of {config.study}",
    )
    channel = channel or Alone()
    link = channel.link = TrialLink(Admit(assignment=assignment, folder=folder), channel, channel.hear)
    outcome = SoloEngine(AllRows(cache)).run(link)
    if outcome.kind is not OutcomeKind.COMPLETE or outcome.adapter is None:
        lost = outcome.facts.warnings.adapter
        raise TrialError(f"the final run of study {config.study} has no result: {lost or outcome.reason}")
    facts = outcome.facts
    return {
        "adapter": outcome.adapter,
        "test": outcome.value,
        "curve": [[report.fraction, report.value] for report in channel.reports],
        "rows": facts.training.rows,
        "steps": facts.training.steps,
        "resumed_at_step": facts.training.resumed_at_step,
        "device_seconds": facts.timing.device,
        "versions": facts.environment.versions,
    }


if __name__ == "__main__":
    sys.exit(answer_with(train))
