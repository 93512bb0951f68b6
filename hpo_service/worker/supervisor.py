"""The pull loop: claim trials, hand them to the child, renew leases, carry reports and decisions, obey signals."""

from __future__ import annotations

import functools
import logging
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TypeVar

from hpo_service.domain.messages import Admit, Continue, Failed, Finished, Heartbeat, Reported, Started, Stop
from hpo_service.domain.states import TrialState
from hpo_service.domain.trial import Assignment, Decision, Outcome, OutcomeKind
from hpo_service.errors import ChildError, DatabaseUnavailableError, StaleLeaseError
from hpo_service.failpoint import reach
from hpo_service.service.queue import TrialQueue
from hpo_service.service.reaper import Reaper
from hpo_service.service.stages import Stages
from hpo_service.worker.child import OBJECTIVE, TRAINER, Child, FromChildMessage
from hpo_service.worker.held import HeldTrial, discard_checkpoints, hand_over_checkpoint, trial_folder
from hpo_service.worker.outbox import Delivery, Outbox

TICK_SECONDS = 0.5
"""Longest wait for a message before signals, leases and hangs are looked at again."""
IDLE_SECONDS = (0.3, 3.0)
"""First and longest pause between two looks for work, before jitter."""
RENEWALS_PER_LEASE = 4
"""Leases are renewed this often within their length, so that three lost renewals do no harm."""
REAP_SECONDS = 10.0
"""Pause between two runs of the reaper, before jitter."""
BEAT_SECONDS = 20.0
"""Pause between two signs of life of a worker that holds nothing."""
DRAIN_SECONDS = 90.0
"""From the first signal to the abort, if the child has not saved its checkpoint by then."""

log = logging.getLogger(__name__)
T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True)
class WorkerOptions:
    """What one worker is told on its command line."""

    id: str
    output: Path
    study: str | None = None
    until_finished: bool = False
    max_trials: int | None = None
    drain_seconds: float = DRAIN_SECONDS
    environment: dict[str, str] = field(default_factory=dict)


class Supervisor:
    """One worker: a single-threaded loop around one child. Nothing here knows what a trial computes."""

    def __init__(
        self,
        queue: TrialQueue,
        stages: Stages,
        reaper: Reaper,
        finished: Callable[[], bool],
        options: WorkerOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a worker.

        Args:
            queue: where trials come from and reports go to.
            stages: advances studies when there is nothing else to do.
            reaper: takes trials back from silent workers.
            finished: tells whether the study this worker serves has ended (only asked with `until_finished`).
            options: identity, folders, limits.
            clock: monotonic seconds.
        """
        self._queue = queue
        self._stages = stages
        self._reaper = reaper
        self._finished = finished
        self._options = options
        self._clock = clock
        self._jitter = random.Random(options.id)  # noqa: S311 - spreads pauses, guards nothing
        self._outbox = Outbox(clock, self._jitter)
        self._child: Child | None = None
        self._held: dict[str, HeldTrial] = {}
        self._signals = 0
        self._drain_until: float | None = None
        self._draining = ""
        self._claimed = 0
        self._slots = 1
        self._idle = IDLE_SECONDS[0]
        self._claim_at = self._renew_at = self._reap_at = 0.0

    def run(self) -> None:
        """Work until there is nothing left to do, or until told to stop."""
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not self._done():
                self._obey_signals()
                self._outbox.flush()
                self._reap()
                self._claim()
                self._listen()
                self._renew()
                self._watch()
        finally:
            self._close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _done(self) -> bool:
        if self._held or len(self._outbox):
            return self._signals > 1
        if self._draining:
            return True
        if self._options.max_trials is not None and self._claimed >= self._options.max_trials:
            return True
        return self._options.until_finished and self._ask(self._finished, default=False)

    def _ask(self, call: Callable[[], T], default: D) -> T | D:
        """Call the database; while it is away, answer with the default and leave it alone for a while."""
        if not self._outbox.may_try:
            return default
        try:
            answer = call()
        except DatabaseUnavailableError as error:
            if not self._outbox.database_away:
                log.warning("%s; training goes on", error)
            self._outbox.outage()
            return default
        self._outbox.reached()
        return answer

    # --- signals -----------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._draining = self._draining or f"the worker received {signal.Signals(number).name}"

    def _obey_signals(self) -> None:
        if not self._signals:
            return
        if self._drain_until is None:
            log.info("%s: saving checkpoints and giving trials back", self._draining)
            self._drain_until = self._clock() + self._options.drain_seconds
            for held in self._held.values():
                self._tell(held, Decision(action="release", reason=self._draining))
        if self._signals > 1 or self._clock() > self._drain_until:
            self._abort()

    def _abort(self) -> None:
        """Give up on checkpoints: end the child and give the trials back as they are."""
        self._signals = max(2, self._signals)
        self._stop_child()
        for held in list(self._held.values()):
            self._settle(held, Outcome(kind=OutcomeKind.RELEASED, reason=f"{self._draining}; aborted"))
        self._outbox.flush()

    # --- claiming ----------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        while self._may_claim():
            serving = next((h.assignment.study for h in self._held.values()), self._options.study)
            assignment = self._ask(functools.partial(self._queue.claim, self._options.id, serving), default=None)
            if assignment is None:
                self._nothing_to_do()
                return
            self._admit(assignment)

    def _may_claim(self) -> bool:
        live = sum(not held.over for held in self._held.values())
        limit = self._options.max_trials
        return (
            not self._draining
            and live < self._slots
            and self._clock() >= self._claim_at
            and not len(self._outbox)
            and (limit is None or self._claimed < limit)
        )

    def _nothing_to_do(self) -> None:
        if self._ask(self._stages.advance_all, default=False):
            return
        self._claim_at = self._clock() + self._idle * self._jitter.uniform(0.5, 1.0)
        self._idle = min(IDLE_SECONDS[1], 1.5 * self._idle)

    def _admit(self, assignment: Assignment) -> None:
        self._idle = IDLE_SECONDS[0]
        self._claimed += 1
        self._slots = assignment.slots
        held = HeldTrial(
            assignment=assignment,
            folder=trial_folder(self._options.output, assignment),
            expires=self._clock() + assignment.lease_seconds,
        )
        self._held[held.key] = held
        self._renew_at = min(self._renew_at, self._clock() + assignment.lease_seconds / RENEWALS_PER_LEASE)
        hand_over_checkpoint(held.folder, assignment.attempt)
        model = assignment.config.model
        child = self._child_for(assignment)
        child.send(
            Admit(
                trial=held.key,
                config=assignment.config,
                folder=str(held.folder),
                describe=[name for name in (model.base, model.target) if name] if model else [],
            )
        )
        log.info("%s #%d, attempt %d", assignment.stage, assignment.number, assignment.attempt)
        reach("child.admitted")

    def _child_for(self, assignment: Assignment) -> Child:
        command = TRAINER if assignment.config.objective is None else OBJECTIVE
        if self._child is not None and self._child.command != command:
            self._stop_child()
        if self._child is None:
            name = f"worker-{self._options.id}.log"
            self._child = Child(
                command, self._options.output / "logs" / name, self._options.environment, clock=self._clock
            )
        if not any(not held.over for held in self._held.values() if held.assignment is not assignment):
            self._child.last_heard = self._clock()
        return self._child

    # --- the child ---------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        wait = TICK_SECONDS
        if not self._held:
            wait = min(wait, max(0.0, self._claim_at - self._clock()))
        child = self._child
        if child is None:
            time.sleep(wait)
            return
        try:
            message = child.receive(wait)
            while message is not None:
                self._hear(message)
                message = child.receive(0.0) if self._child is child else None
        except ChildError as error:
            self._lose_child(str(error))

    def _hear(self, message: FromChildMessage) -> None:
        if isinstance(message, Heartbeat):
            for key, share in message.progress.items():
                if key in self._held:
                    self._held[key].progress = share
            return
        held = self._held.get(message.trial)
        if held is None or held.over:
            return
        if isinstance(message, Started):
            self._describe(held, message)
        elif isinstance(message, Reported):
            self._report(held, message)
        elif isinstance(message, Finished):
            self._settle(held, held.as_asked(message.outcome))
        else:
            self._fail(held, message)

    def _describe(self, held: HeldTrial, message: Started) -> None:
        held.progress = message.resumed_at
        if message.models:
            call = functools.partial(self._queue.describe, held.assignment.study, message.models)
            self._deliver(held, call, lambda _: None)

    def _report(self, held: HeldTrial, message: Reported) -> None:
        held.progress, held.last_value = message.report.fraction, message.report.value
        lease_from = self._clock()
        decided: list[Decision] = []

        def answered(decision: Decision) -> None:
            held.expires = lease_from + held.assignment.lease_seconds
            decided.append(decision)
            self._tell(held, decision)

        self._deliver(held, functools.partial(self._queue.report, held.assignment.lease, message.report), answered)
        # While the database is away the child trains on; a decision that comes later still reaches it.
        if held.asked is None and self._child is not None:
            self._child.send(Continue(trial=held.key))

    def _tell(self, held: HeldTrial, decision: Decision) -> None:
        """Pass a decision on to the child, once."""
        if decision.action == "continue" or held.asked is not None or held.over:
            return
        held.asked = decision
        log.info("%s: %s: %s", held.key, decision.action, decision.reason)
        if self._child is not None:
            keep = decision.action in ("release", "abandon")
            self._child.send(Stop(trial=held.key, reason=decision.reason, checkpoint=keep))

    def _fail(self, held: HeldTrial, message: Failed) -> None:
        log.warning("%s: %s", held.key, message.reason)
        self._settle(held, Outcome(kind=OutcomeKind.ERROR, reason=message.reason, retryable=message.retryable))
        if message.fatal:
            self._lose_child("the trainer asked to be restarted")

    def _lose_child(self, reason: str) -> None:
        self._stop_child()
        for held in [h for h in self._held.values() if not h.over]:
            log.warning("%s: %s", held.key, reason)
            outcome = Outcome(kind=OutcomeKind.ERROR, reason=reason)
            self._settle(held, held.as_asked(outcome) if held.asked else outcome)

    def _stop_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _watch(self) -> None:
        """Kill a child that has been silent for too long; its trials are tried again."""
        live = [held for held in self._held.values() if not held.over]
        if self._child is None or not live:
            return
        limit = min(held.assignment.hang_seconds for held in live)
        if self._child.silence > limit:
            self._lose_child(f"the trainer child was silent for {limit:g} s and was killed")

    # --- the database ------------------------------------------------------------------------------------------

    def _deliver(self, held: HeldTrial, call: Callable[[], T], answered: Callable[[T], None]) -> None:
        def refused(error: StaleLeaseError) -> None:
            log.warning("%s", error)
            self._tell(held, Decision(action="abandon", reason=str(error)))
            self._drop(held)

        self._outbox.put(Delivery(held.key, call, answered, refused))
        self._outbox.flush()

    def _settle(self, held: HeldTrial, outcome: Outcome) -> None:
        held.over = True
        if held.key not in self._held:
            return

        def answered(state: TrialState) -> None:
            if state.final:
                discard_checkpoints(held.folder)
            log.info("%s: %s: %s", held.key, state, outcome.reason)
            self._drop(held)

        self._deliver(held, functools.partial(self._queue.finish, held.assignment.lease, outcome), answered)

    def _drop(self, held: HeldTrial) -> None:
        held.over = True
        self._held.pop(held.key, None)
        self._claim_at = 0.0

    def _renew(self) -> None:
        if self._clock() < self._renew_at:
            return
        leases = [held.assignment.lease_seconds / RENEWALS_PER_LEASE for held in self._held.values()]
        asked_at = self._clock()
        progress = {held.assignment.lease: held.progress for held in self._held.values()}
        renewal = self._ask(lambda: self._queue.renew(self._options.id, progress), default=None)
        if renewal is not None:
            self._renew_at = asked_at + min(leases, default=BEAT_SECONDS)
            if renewal.draining:
                self._draining = self._draining or "the worker was told to drain"
        for held in list(self._held.values()):
            decision = renewal.decisions.get(held.assignment.lease) if renewal is not None else None
            if decision is None:
                self._expire(held)
                continue
            held.expires = asked_at + held.assignment.lease_seconds
            if decision.action == "abandon":
                self._outbox.forget(held.key)
                self._tell(held, decision)
                self._drop(held)
            else:
                self._tell(held, decision)

    def _expire(self, held: HeldTrial) -> None:
        """Stop a trial whose lease may have passed to somebody else while the database was away."""
        if self._clock() > held.expires:
            reason = f"the database was away for longer than the lease of {held.assignment.lease_seconds:g} s"
            self._tell(held, Decision(action="abandon", reason=reason))

    def _reap(self) -> None:
        if self._clock() >= self._reap_at:
            self._ask(self._reaper.reap, default=[])
            self._reap_at = self._clock() + REAP_SECONDS * self._jitter.uniform(0.5, 1.0)

    def _close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
