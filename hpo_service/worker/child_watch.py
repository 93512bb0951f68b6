"""What the child says about the trials it runs, and what its silence or its death means for them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import ChildError
from hpo_service.service.trials.queue import TrialQueue
from hpo_service.wire.messages import (
    Capacity,
    Continue,
    Failed,
    Finished,
    FromChild,
    FromTrial,
    Heartbeat,
    Reported,
    Started,
)
from hpo_service.worker.child_slot import ChildSlot
from hpo_service.worker.held_trial import HeldTrial
from hpo_service.worker.held_trials import HeldTrials

log = logging.getLogger(__name__)


class ChildWatch:
    """Listens to the child, and ends it when it hangs or has become unusable."""

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

    def listen(self, seconds: float) -> None:
        """Wait so long for the child to say something, and take all that it has said."""
        child = self._slot.child
        if child is None:
            return
        try:
            message = child.receive(seconds)
            while message is not None:
                self._hear(message)
                message = child.receive(0.0) if self._slot.child is child else None
        except ChildError as error:
            self._end_child(str(error))

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
                self._end_child(f"{late} and the child was killed; its log is {log_file}", at_fault=held)
                return

    def _hear(self, message: FromChild) -> None:
        if isinstance(message, Heartbeat):
            self._slot.activity = message.activity
            self._held.progress(message.progress)
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
        if isinstance(message, Finished):
            self._held.finish(held, message.outcome)
            if message.outcome.restart:
                self._end_child(f"the child had to be replaced after {held.key}", at_fault=held)
        elif isinstance(message, Failed):
            self._fail(held, message)
        elif held.lost:
            return
        elif isinstance(message, Started):
            self._describe(held, message)
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
            self._end_child(f"the child had to be restarted after {held.key}: {message.reason}", at_fault=held)

    def _end_child(self, reason: str, at_fault: HeldTrial | None = None) -> None:
        """End the child; what it held is tried again, and counts as an error unless the fault was another's."""
        self._slot.kill()
        for held in self._held.live:
            log.warning("%s: %s", held.key, reason)
            kind = OutcomeKind.ERROR if at_fault in (None, held) else OutcomeKind.RELEASED
            self._held.finish(held, held.broken_off(kind, reason))
