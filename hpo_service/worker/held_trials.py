"""The trials that a worker holds: what is told about them to the database, and to the child that runs them."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import HpoServiceError
from hpo_service.service.trials.queue import TrialQueue
from hpo_service.wire.messages import Stop
from hpo_service.wire.undelivered import keep_undelivered
from hpo_service.worker.child_slot import ChildSlot
from hpo_service.worker.handover import discard_checkpoints
from hpo_service.worker.held_trial import HeldTrial
from hpo_service.worker.outbox import Delivery, Outbox

log = logging.getLogger(__name__)
T = TypeVar("T")


class HeldTrials:
    """Held trials by key. One leaves when the database knows its end, or when it is somebody else's."""

    def __init__(
        self,
        queue: TrialQueue,
        outbox: Outbox,
        slot: ChildSlot,
        clock: Callable[[], float],
        freed: Callable[[HeldTrial, TrialState | None, Outcome | None], object],
    ) -> None:
        """Hold nothing yet.

        Args:
            queue: where reports and ends go to.
            outbox: delivers them in order.
            slot: of the child that is told to stop.
            clock: monotonic seconds.
            freed: called when a place is free, with its trial, the state that is in now and how the attempt ended
                (None: not ours to know).
        """
        self._queue, self._outbox, self._slot, self._clock, self._freed = queue, outbox, slot, clock, freed
        self._held: dict[str, HeldTrial] = {}

    def __iter__(self) -> Iterator[HeldTrial]:
        return iter(list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> HeldTrial | None:
        """The trial of this name, if it is held."""
        return self._held.get(key)

    def add(self, held: HeldTrial) -> None:
        """Hold one more."""
        self._held[held.key] = held

    @property
    def live(self) -> list[HeldTrial]:
        """The trials that the child has not ended yet, whether or not they are still ours."""
        return [held for held in self._held.values() if not held.over]

    def progress(self, shares: Mapping[str, float]) -> None:
        """Note how far trials are, by key."""
        for key in shares.keys() & self._held.keys():
            self._held[key].progress = shares[key]

    def report(self, held: HeldTrial, report: Report) -> None:
        """Deliver a report now or, kept in a file too, when the database is back."""

        def call() -> tuple[float, Decision]:
            return self._clock(), self._queue.report(held.assignment.lease, report)

        def answered(answer: tuple[float, Decision]) -> None:
            held.expires = answer[0] + held.assignment.lease_seconds
            self.pass_on(held, answer[1], answers=report.step)

        self.deliver(held, call, answered)
        if len(self._outbox):
            keep_undelivered(held.folder, report, held.assignment.identity)

    def pass_on(self, held: HeldTrial, decision: Decision, answers: int | None = None) -> None:
        """Pass a decision to stop on to the child, once: the first one stands; it may answer the report of a step."""
        if decision.ends_as is None or held.order is not None or held.over:
            return
        held.order, held.ordered_at = decision, self._clock()
        log.info("%s: %s: %s", held.key, decision.action, decision.reason)
        self._slot.send(Stop(trial=held.key, decision=decision, answers=answers))

    def deliver(self, held: HeldTrial, call: Callable[[], T], answered: Callable[[T], None]) -> None:
        """Call the database about a trial, in order with everything else; refusals and errors cost that trial alone."""

        def refused(error: HpoServiceError) -> None:
            self.lose(held, str(error))

        def broken(error: Exception) -> None:
            reason = f"what the trial reported cannot be stored ({type(error).__name__})"
            if held.over:
                self.lose(held, reason)
                return
            self.pass_on(held, Decision(action="cancel", reason=reason))
            self.finish(held, Outcome(kind=OutcomeKind.ERROR, reason=reason, retryable=False))

        self._outbox.put(Delivery(held.key, call, answered, refused, broken))
        self._outbox.flush()

    def finish(self, held: HeldTrial, outcome: Outcome) -> None:
        """Tell the database how an attempt ended; nothing where the trial is not ours any more."""
        held.over = True
        if held.lost:
            self._drop(held)
            return

        def answered(state: TrialState) -> None:
            if state.final:
                discard_checkpoints(held.folder)
            log.info("%s: %s: %s", held.key, state, outcome.reason)
            self._drop(held, state, outcome)

        self.deliver(held, functools.partial(self._queue.finish, held.assignment.lease, outcome), answered)

    def lose(self, held: HeldTrial, reason: str) -> None:
        """Write nothing more about a trial that is not ours any more; its place is free once the child has stopped."""
        log.warning("%s: %s", held.key, reason)
        held.lost = True
        self._outbox.forget(held.key)
        # its child may still save a checkpoint, after whoever ended the trial has removed the others
        with contextlib.suppress(OSError):
            held.folder.enlist(held.assignment.identity)
        if held.over:
            self._drop(held)
        else:
            self.pass_on(held, Decision(action="abandon", reason=reason))

    def _drop(self, held: HeldTrial, state: TrialState | None = None, outcome: Outcome | None = None) -> None:
        self._held.pop(held.key, None)
        self._freed(held, state, outcome)
