"""What one running trial says to its supervisor, and what it is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.errors import TrialError
from hpo_service.wire.child.pipe import Channel
from hpo_service.wire.messages import Admit, Continue, Reported, Started, Stop
from hpo_service.wire.undelivered import remember


class Stopped(Exception):  # noqa: N818 - not an error: it carries an order out of nested code
    """Raised inside a trial that was told to stop where there is nothing to save."""


class TrialLink:
    """What one running trial says to its supervisor, and what it is told."""

    def __init__(self, admit: Admit, channel: Channel, hear: Callable[[float | None], bool]) -> None:
        self.admit = admit
        self.trial, self.config, self.folder = admit.trial, admit.config, Path(admit.folder)
        self.describe = admit.describe
        self._channel, self._hear = channel, hear
        self._stop: Stop | None = None
        self._answered = False
        self._stop_answers_report = False

    def started(self, resumed_at: float = 0.0, models: Mapping[str, ModelFacts] | None = None) -> None:
        """Say that the trial is set up and training begins at this share of it."""
        self.touch(resumed_at)
        self._channel.send(Started(trial=self.trial, resumed_at=resumed_at, models=dict(models or {})))

    def report(self, report: Report) -> Stop | None:
        """Send an evaluation and wait for the answer: None to go on, or the order to stop.

        Measures beside the value that are not finite are left out: databases cannot hold them. A report that was
        not answered before the order to save and leave goes to the journal, for the checkpoint will lie ahead of it
        and the supervisor may be dead.
        """
        finite = {name: value for name, value in report.metrics.items() if math.isfinite(value)}
        pending = self.stop()
        self._answered = False
        report = report.model_copy(update={"metrics": finite})
        self._channel.send(Reported(trial=self.trial, report=report))
        while not self._answered and self._stop is None:
            self._hear(None)
        self._stop_answers_report = self._stop is not None and pending is None
        if self._stop is not None and self._stop.checkpoint and not self._answered:
            remember(self.folder, report)
        return self._stop

    def stop(self) -> Stop | None:
        """The order to stop this trial, if one has come; never waits."""
        while self._hear(0):
            pass
        return self._stop

    def check(self) -> None:
        """Raise `Stopped` if the trial was told to stop: for places where there is nothing to save."""
        if self.stop() is not None:
            raise Stopped

    def check_unless_saving(self) -> None:
        """Raise `Stopped` if the trial was told to stop without a checkpoint: between places where one can be made."""
        stop = self.stop()
        if stop is not None and not stop.checkpoint:
            raise Stopped

    def touch(self, progress: float | None = None, activity: str = "") -> None:
        """Note that the trial goes on, at this share of it."""
        self._channel.touch(None if progress is None else {self.trial: progress}, activity)

    @contextmanager
    def busy(self, activity: str, limit: float = math.inf) -> Iterator[None]:
        """Keep the heartbeat going through one long call, for at most `limit` seconds."""
        with self._channel.busy(activity, limit):
            yield

    def stopped(
        self,
        value: float | None = None,
        facts: RunFacts | None = None,
        checkpoint_failed: str = "",
    ) -> Outcome:
        """The outcome of a trial that obeyed an order to stop: released, pruned (by a report) or cancelled."""
        if self._stop is None:
            raise TrialError(f"trial {self.trial} ended as stopped, but nobody asked for it; please report this")
        reason = self._stop.reason + (f" (no checkpoint: {checkpoint_failed})" if checkpoint_failed else "")
        return Outcome(kind=self._stop_kind(self._stop), reason=reason, value=value, facts=facts or RunFacts())

    def _stop_kind(self, stop: Stop) -> OutcomeKind:
        if stop.checkpoint:
            return OutcomeKind.RELEASED
        return OutcomeKind.PRUNED if self._stop_answers_report else OutcomeKind.CANCELLED

    def take(self, message: Continue | Stop) -> None:
        """Receive an answer or an order that is about this trial."""
        if isinstance(message, Stop):
            self._stop = self._stop or message
        else:
            self._answered = True
