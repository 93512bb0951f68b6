"""What one running trial says to its supervisor, and what it is told."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.domain.trial.report import Report
from hpo_service.errors import TrialError
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.child.own_process import OwnProcess
from hpo_service.wire.child.pipe import Channel
from hpo_service.wire.messages import Admit, CheckpointLost, Reported, Started, Stop, ToTrial
from hpo_service.wire.undelivered import keep_undelivered


class Stopped(Exception):  # noqa: N818 - not an error: it carries an order out of nested code
    """Raised inside a trial that was told to stop where there is nothing to save."""


class TrialLink:
    """What one running trial says to its supervisor, and what it is told."""

    def __init__(self, admit: Admit, channel: Channel, hear: Callable[[float | None], bool]) -> None:
        """Speak for one trial.

        Args:
            admit: the order to train it.
            channel: to the supervisor.
            hear: waits so many seconds (None: for ever) for a message about any trial; tells whether one came.
        """
        self.admit = admit
        self.assignment, self.trial = admit.assignment, admit.trial
        self.config, self.folder = admit.assignment.config, AttemptFolder(admit.folder)
        self.store = admit.store
        self._channel, self._hear = channel, hear
        self._stop: Stop | None = None
        self._answered = self._closed = False
        self._last_value: float | None = None
        # held by who waits for an answer, which then hears everything; again by the same thread
        self._hearing = threading.RLock()
        self._process = OwnProcess()

    @property
    def speaks(self) -> bool:
        """Whether this process may speak for the trial: not in a copy that was forked from it."""
        return self._process.is_this

    def started(self, resumed_at: float = 0.0, models: Mapping[str, ModelFacts] | None = None) -> None:
        """Say that the trial is set up and training begins at this share of it."""
        self.touch(resumed_at)
        self._channel.send(Started(trial=self.trial, resumed_at=resumed_at, models=dict(models or {})))

    def report(self, report: Report) -> Stop | None:
        """Send an evaluation and wait for the answer: None to go on, or the order to stop.

        Measures beside the value that are not finite are left out: databases cannot hold them. A report that was
        not answered before the order to save and leave, or to end as an earlier report was judged, is kept in a file:
        what the trial has saved will lie ahead of it, and the supervisor may be dead. Several threads may report: each
        waits for its own answer, in turn.

        Raises:
            ForkedProcessError: this process is a copy that was forked from the trial's.
            TrialError: the trial has ended; a thread of it has not.
        """
        finite = {name: value for name, value in report.metrics.items() if math.isfinite(value)}
        report = report.model_copy(update={"metrics": finite})
        self._process.require()
        with self._hearing:
            return self._report(report)

    def _report(self, report: Report) -> Stop | None:
        if self._closed:
            raise TrialError(f"trial {self.trial} has ended, and a thread that it left behind still reports")
        self.stop()
        self._answered = False
        self._last_value = report.value
        self._channel.send(Reported(trial=self.trial, report=report))
        while not self._answered and self._stop is None:
            self._hear(None)
        if self._stop is not None and self._stop.overtakes(report.step) and not self._answered:
            keep_undelivered(self.folder, report, self.assignment.identity)
        return self._stop

    def checkpoint_lost(self, reason: str) -> None:
        """Say that a checkpoint could not be saved, copied or fetched; the trial goes on."""
        self._channel.send(CheckpointLost(trial=self.trial, reason=reason))

    def close(self) -> None:
        """Let a thread that waits for an answer have it, and refuse what is reported from here on."""
        with self._hearing:
            self._closed = True

    def stop(self) -> Stop | None:
        """The order to stop this trial, if one has come; never waits, not for another thread's report either."""
        if self._hearing.acquire(blocking=False):
            try:
                while self._hear(0):
                    pass
            finally:
                self._hearing.release()
        return self._stop

    def check(self) -> None:
        """Raise `Stopped` if the trial was told to stop: for places where there is nothing to save."""
        if self.stop() is not None:
            raise Stopped

    def check_unless_saving(self) -> None:
        """Raise `Stopped` if the trial was told to stop without a checkpoint: between places where one can be made."""
        stop = self.stop()
        if stop is not None and not stop.saves:
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
        """The outcome of a trial that obeyed the order to stop: of the kind and for the reason that was ordered.

        Args:
            value: its measure; by default that of the last report.
            facts: what stays behind.
            checkpoint_failed: why no checkpoint could be saved, if that was so.
        """
        kind = self._stop.decision.ends_as if self._stop is not None else None
        if self._stop is None or kind is None:
            raise TrialError(f"trial {self.trial} ended as stopped, but nobody asked for it; please report this")
        reason = self._stop.reason + (f" (no checkpoint: {checkpoint_failed})" if checkpoint_failed else "")
        return Outcome(
            kind=kind, reason=reason, value=self._last_value if value is None else value, facts=facts or RunFacts()
        )

    def receive(self, message: ToTrial) -> None:
        """Receive an answer or an order that is about this trial; the first order to stop stands."""
        if isinstance(message, Stop):
            self._stop = self._stop or message
        else:
            self._answered = True
