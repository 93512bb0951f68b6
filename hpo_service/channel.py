"""The child's end of the JSON-lines pipe: messages, heartbeats that stop when the work stops, trials in turn."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO

from pydantic import ValidationError

from hpo_service.domain.messages import (
    TO_CHILD,
    Admit,
    Continue,
    Failed,
    Finished,
    Heartbeat,
    Reported,
    Shutdown,
    Started,
    Stop,
)
from hpo_service.domain.trial import ModelFacts, Outcome, OutcomeKind, Report
from hpo_service.errors import TrialError
from hpo_service.journal import remember

# Seconds between two looks at whether there was progress, and so between heartbeats of a busy child.
BEAT_SECONDS = 1.0
# Seconds a child may need to save and leave once its supervisor is gone; then it ends itself.
ORPHAN_SECONDS = 60.0
REASON_CHARS = 500
ENDING = "the worker is shutting down"
# By name: they come from network libraries that this side does not import.
OUT_OF_REACH = frozenset({"ConnectionError", "TimeoutError", "Timeout", "TransportError", "LocalEntryNotFoundError"})

ToSupervisor = Started | Reported | Finished | Failed | Heartbeat
FromSupervisor = Admit | Continue | Stop | Shutdown

log = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818 - not an error: it carries an order out of nested code
    """Raised inside a trial that was told to stop where there is nothing to save."""


class Channel:
    """Messages to and from the supervisor, safe to use from several threads.

    A heartbeat is sent only if the trial was touched since the last one, or says that it is busy with something
    long: a trainer that hangs falls silent, and its supervisor can tell.
    """

    def __init__(
        self,
        reader: BinaryIO,
        writer: BinaryIO,
        *,
        clock: Callable[[], float] = time.monotonic,
        abandon: Callable[[], None] = lambda: os._exit(1),
        orphan_seconds: float = ORPHAN_SECONDS,
    ) -> None:
        self._reader, self._writer, self._clock = reader, writer, clock
        self._abandon, self._orphan_seconds = abandon, orphan_seconds
        self._inbox: SimpleQueue[FromSupervisor] = SimpleQueue()
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._touched = True
        self._busy: list[tuple[str, float]] = []
        self._activity = ""
        self._progress: dict[str, float] = {}
        self._busy_lock = threading.Lock()
        threading.Thread(target=self._read, name="supervisor-reader", daemon=True).start()

    @classmethod
    def over_stdio(cls) -> Channel:
        """Take standard input and output for messages alone, and start the heartbeat.

        Afterwards file descriptor 1 leads to standard error and 0 to nothing, so that no library's print, nor a
        grandchild's, can corrupt the protocol. SIGTERM asks for a clean end; SIGINT is left to the supervisor.
        """
        reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdout.flush()
        os.dup2(2, 1)
        channel = cls(reader, writer, abandon=_end_group)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # SimpleQueue.put is reentrant, which makes it fit for a signal handler.
        signal.signal(signal.SIGTERM, lambda *_: channel._inbox.put(Shutdown()))
        threading.Thread(target=channel._beat_forever, name="heartbeat", daemon=True).start()
        return channel

    def send(self, message: ToSupervisor) -> None:
        """Write one message; when the supervisor is gone it is dropped (reading finds the end of the pipe)."""
        line = message.model_dump_json().encode() + b"\n"
        with self._writing:
            try:
                self._writer.write(line)
                self._writer.flush()
            except (BrokenPipeError, ValueError):
                log.warning("the supervisor is gone: %s was not delivered", message.type)

    def receive(self, timeout: float | None = None) -> FromSupervisor | None:
        """Wait for the next message; None after `timeout` seconds, `Shutdown` once the supervisor is gone."""
        if timeout == 0:
            return self._next(block=False, timeout=None)
        with self.busy("waiting for the supervisor"):
            return self._next(block=True, timeout=timeout)

    def touch(self, progress: Mapping[str, float] | None = None, activity: str = "") -> None:
        """Note that the work goes on; `progress` is the share done per trial (left out: unchanged)."""
        if progress is not None:
            self._progress = dict(progress)
        self._activity = activity
        self._touched = True

    @contextmanager
    def busy(self, activity: str, limit: float = math.inf) -> Iterator[None]:
        """Keep the heartbeat going through one long call that cannot touch, for at most `limit` seconds.

        What a touch within the call says is shown instead of `activity`: it is nearer to the work.
        """
        with self._busy_lock:
            self._busy.append((activity, self._clock() + limit))
            before, self._activity = self._activity, ""
        try:
            yield
        finally:
            with self._busy_lock:
                self._busy.pop()
                self._activity = before
            self._touched = True

    def beat(self) -> bool:
        """Send one heartbeat if there is a sign of life since the last; tell whether it was sent."""
        with self._busy_lock:
            phase, until = self._busy[-1] if self._busy else ("", -math.inf)
        alive = self._touched or self._clock() < until
        self._touched = False
        if alive:
            self.send(Heartbeat(progress=self._progress, activity=self._activity or phase))
        return alive

    def close(self) -> None:
        """End the heartbeat and close the writing side."""
        self._closed.set()
        with self._writing:
            try:
                self._writer.close()
            except BrokenPipeError:
                log.debug("the supervisor closed its end first")

    def _beat_forever(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            self.beat()

    def _next(self, block: bool, timeout: float | None) -> FromSupervisor | None:
        try:
            return self._inbox.get(block=block, timeout=timeout)
        except Empty:
            return None

    def _read(self) -> None:
        with self._reader:
            for line in self._reader:
                try:
                    self._inbox.put(TO_CHILD.validate_json(line))
                except ValidationError as error:
                    log.error("not a message from the supervisor: %r (%s)", line[:200], error.errors()[0]["msg"])
        self._inbox.put(Shutdown())
        # Work that does not look at its messages must not outlive its supervisor and keep the device.
        if not self._closed.wait(self._orphan_seconds):
            self._abandon()


class TrialLink:
    """What one running trial says to its supervisor, and what it is told."""

    def __init__(self, admit: Admit, channel: Channel, hear: Callable[[float | None], bool]) -> None:
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
        facts: Mapping[str, float | int | str] | None = None,
        checkpoint_failed: str = "",
    ) -> Outcome:
        """The outcome of a trial that obeyed an order to stop: released, pruned (by a report) or cancelled."""
        if self._stop is None:
            raise TrialError(f"trial {self.trial} ended as stopped, but nobody asked for it; please report this")
        reason = self._stop.reason + (f" (no checkpoint: {checkpoint_failed})" if checkpoint_failed else "")
        return Outcome(kind=self._stop_kind(self._stop), reason=reason, value=value, facts=dict(facts or {}))

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


RunTrial = Callable[[TrialLink], Outcome]


class Host:
    """Runs the trials that the supervisor admits, one at a time, and tells each what is said to it."""

    def __init__(
        self, channel: Channel, run: RunTrial, is_fatal: Callable[[BaseException], bool] = lambda _: False
    ) -> None:
        self._channel, self._run, self._is_fatal = channel, run, is_fatal
        self._waiting: deque[Admit] = deque()
        self._current: TrialLink | None = None
        self._ending = False

    def serve(self) -> int:
        """Run trials until the supervisor shuts down or is gone; return the exit status of the process.

        A trial's exception is reported and the next trial runs, unless it leaves the process unusable (1).
        """
        usable = True
        while usable and not self._ending:
            if self._waiting:
                usable = self._attend(self._waiting.popleft())
            else:
                self._hear(None)
        for admit in self._waiting:
            self._give_back(admit, Stop(trial=admit.trial, reason=ENDING, checkpoint=True))
        self._channel.close()
        return 0 if usable else 1

    def _attend(self, admit: Admit) -> bool:
        self._current = link = TrialLink(admit, self._channel, self._hear)
        link.touch(0.0)
        message: Finished | Failed
        try:
            message = Finished(trial=admit.trial, outcome=self._outcome(link))
        except (Exception, SystemExit) as error:
            message = Failed(
                trial=admit.trial, reason=reason_of(error), fatal=self._is_fatal(error), retryable=may_go_better(error)
            )
            if not isinstance(error, TrialError):
                log.exception("trial %s failed", admit.trial)
        self._current = None
        self._channel.touch({})
        self._channel.send(message)
        return not (message.fatal if isinstance(message, Failed) else message.outcome.restart)

    def _outcome(self, link: TrialLink) -> Outcome:
        try:
            return self._run(link)
        except Stopped:
            return link.stopped()

    def _hear(self, timeout: float | None) -> bool:
        message = self._channel.receive(timeout)
        if isinstance(message, Admit):
            self._waiting.append(message)
        elif isinstance(message, Shutdown):
            self._ending = True
            if self._current is not None:
                self._current.take(Stop(trial=self._current.trial, reason=ENDING, checkpoint=True))
        elif message is not None:
            self._pass_on(message)
        return message is not None

    def _pass_on(self, message: Continue | Stop) -> None:
        """Hand a message to the trial it names; about one that has ended there is nothing left to say."""
        if self._current is not None and message.trial == self._current.trial:
            self._current.take(message)
        elif isinstance(message, Stop):
            for admit in [each for each in self._waiting if each.trial == message.trial]:
                self._waiting.remove(admit)
                self._give_back(admit, message)

    def _give_back(self, admit: Admit, stop: Stop) -> None:
        link = TrialLink(admit, self._channel, self._hear)
        link.take(stop)
        self._channel.send(Finished(trial=admit.trial, outcome=link.stopped()))


def _end_group() -> None:
    """End this process at once, and what the work has started, where the group is its own."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def may_go_better(error: BaseException) -> bool:
    """Whether another attempt could end otherwise: not where the inputs are wrong, but where they were out of reach."""
    if not isinstance(error, TrialError) or error.retryable:
        return True
    cause: BaseException | None = error
    while cause is not None:
        if any(base.__name__ in OUT_OF_REACH for base in type(cause).__mro__):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def reason_of(error: BaseException) -> str:
    """One line for a person: the text of an expected error as it is, any other with its type in front."""
    text = " ".join(str(error).split())[:REASON_CHARS]
    if isinstance(error, TrialError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
