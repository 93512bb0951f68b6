"""What the child says about the trials it runs, and what its silence or its death means for them."""

from __future__ import annotations

import functools
import logging
import signal
from collections.abc import Callable, Collection

from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.errors import ChildError, UnfitWorkerError
from hpo_service.service.trials.queue import TrialQueue
from hpo_service.wire.messages import (
    LEAVING,
    Capacity,
    CheckpointLost,
    Continue,
    Failed,
    Finished,
    FromChild,
    FromTrial,
    Heartbeat,
    Ready,
    Reported,
    Started,
    Unusable,
)
from hpo_service.worker.child_slot import ChildSlot
from hpo_service.worker.held_trial import HeldTrial
from hpo_service.worker.held_trials import HeldTrials

TO_LEAVE = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals by which a process is asked to leave: one that dies of them did nothing wrong."""

log = logging.getLogger(__name__)


class ChildWatch:
    """Listens to the child, and ends it when it hangs or has become unusable.

    Attributes:
        ended: how the last child that ended by itself did.
    """

    def __init__(self, queue: TrialQueue, held: HeldTrials, slot: ChildSlot, clock: Callable[[], float]) -> None:
        """Watch the child of a slot.

        Args:
            queue: where what is learned about models goes to.
            held: the trials that it may speak about.
            slot: of the child.
            clock: monotonic seconds.
        """
        self._queue, self._held, self._slot, self._clock = queue, held, slot, clock
        self._capacity = ""
        self.ended = ""
        self._ended_from_outside: set[str] = set()

    def listen(self, seconds: float) -> None:
        """Wait so long for the child to say something, and take all that it has said.

        Raises:
            UnfitWorkerError: it cannot train anything on this machine.
        """
        child = self._slot.child
        if child is None:
            return
        try:
            message = child.receive(seconds)
            while message is not None:
                self._hear(message)
                message = child.receive(0.0) if self._slot.child is child else None
        except ChildError as error:
            self._ended(error)

    def end_if_stuck(self) -> None:
        """Kill a child that is silent, or goes on with what it was told to stop, for too long."""
        if self._slot.child is None or not self._held.live:
            return
        limit, log_file = min(held.assignment.hang_seconds for held in self._held.live), self._slot.log
        if self._slot.hangs(limit):
            self._end_child(f"the child was silent for {limit:g} s and was killed; its log is {log_file}")
        for held in self._held.live:
            if held.order is not None and self._clock() - held.ordered_at > held.assignment.hang_seconds:
                late = f"{held.key} did not stop within {held.assignment.hang_seconds:g} s"
                self._end_child(f"{late} and the child was killed; its log is {log_file}", charged=[held])
                return

    def _hear(self, message: FromChild) -> None:
        if isinstance(message, Heartbeat):
            self._slot.activity = message.activity
            self._held.progress(message.progress)
        elif isinstance(message, Ready):
            self._slot.ready = message.device
        elif isinstance(message, Unusable):
            self._end_child(message.reason, charged=())
            raise UnfitWorkerError(message.reason)
        elif isinstance(message, Capacity):
            line = f"up to {message.slots} trial{'s' * (message.slots > 1)} at once: {message.reason}"
            if line != self._capacity:
                log.info(line)
            self._capacity, self._slot.slots = line, message.slots
        else:
            self._hear_about(message)

    def _hear_about(self, message: FromTrial) -> None:
        held = self._held.get(message.trial)
        if held is None or held.over:
            return
        held.started = True
        if isinstance(message, Finished):
            unasked = held.order is None and message.outcome.reason.startswith(LEAVING.reason)
            self._held.finish(held, self._forgiven(held, message.outcome) if unasked else message.outcome)
            if message.outcome.restart:
                self._end_child(f"the child had to be replaced after {held.key}", charged=[held])
            elif unasked and not self._held.live:
                self._slot.kill()  # it is leaving: what it were given now would be lost with it
        elif isinstance(message, Failed):
            self._fail(held, message)
        elif held.lost:
            return
        elif isinstance(message, Started):
            self._describe(held, message)
        elif isinstance(message, CheckpointLost):
            log.warning("%s: %s", held.key, message.reason)
            call = functools.partial(self._queue.lose_checkpoint, held.assignment.lease, message.reason)
            self._held.deliver(held, call, lambda _: None)
        else:
            self._report(held, message)

    def _describe(self, held: HeldTrial, message: Started) -> None:
        held.progress = message.resumed_at
        if message.models:
            call = functools.partial(self._queue.describe, held.assignment.study, message.models)
            self._held.deliver(held, call, lambda _: None)

    def _report(self, held: HeldTrial, message: Reported) -> None:
        held.progress, held.last_value = message.report.fraction, message.report.value
        self._held.report(held, message.report)
        # While the database is away the child trains on; a decision that comes later still reaches it.
        if held.order is None:
            self._slot.send(Continue(trial=held.key))

    def _fail(self, held: HeldTrial, message: Failed) -> None:
        log.warning("%s: %s", held.key, message.reason)
        self._held.finish(held, held.broken_off(OutcomeKind.ERROR, message.reason, retryable=message.retryable))
        if message.fatal:
            self._end_child(f"the child had to be restarted after {held.key}: {message.reason}", charged=[held])

    def _forgiven(self, held: HeldTrial, outcome: Outcome) -> Outcome:
        """The end of a trial whose child leaves though nobody here asked for it."""
        if self._first_time(held):
            return outcome
        again = "the trial's process was told to leave, not for the first time"
        return Outcome(kind=OutcomeKind.ERROR, reason=again)

    def _first_time(self, held: HeldTrial) -> bool:
        """Whether a child was told to leave for the first time in this trial: later it may be the trial's own doing."""
        trial = f"{held.assignment.study}/{held.assignment.key}"
        held.unasked = trial not in self._ended_from_outside
        self._ended_from_outside.add(trial)
        return held.unasked

    def _ended(self, error: ChildError) -> None:
        """Take note of a child that is gone: one that was told to leave, by whoever it was, is no trial's fault."""
        told = error.status is not None and -error.status in TO_LEAVE
        left = error.status == 0
        spared = [held for held in self._held.live if told or (left and not held.started)]
        blameless = [held for held in spared if self._first_time(held)]
        self.ended = str(error)
        self._end_child(str(error), charged=[held for held in self._held.live if held not in blameless])

    def _end_child(self, reason: str, charged: Collection[HeldTrial] | None = None) -> None:
        """End the child; what it held is tried again, as an error of those that are charged (None: of all)."""
        self._slot.kill()
        for held in self._held.live:
            log.warning("%s: %s", held.key, reason)
            kind = OutcomeKind.ERROR if charged is None or held in charged else OutcomeKind.RELEASED
            self._held.finish(held, held.broken_off(kind, reason))
