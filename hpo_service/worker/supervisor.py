"""The pull loop: claim trials, hand them to the child, renew leases, carry reports and decisions, obey signals."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable, Collection

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import ChildError, OutOfTimeError, UnfitWorkerError
from hpo_service.failpoint import reach
from hpo_service.filestore.removal import Removal
from hpo_service.service.stages.advance import Stages
from hpo_service.service.trials.budget import Limits, Withheld
from hpo_service.service.trials.queue import Copied, TrialQueue
from hpo_service.service.trials.reaper import Reaper
from hpo_service.wire.attempt_folder import AttemptFolder, log_folder
from hpo_service.wire.log_file import prune
from hpo_service.wire.messages import Admit
from hpo_service.wire.undelivered import read_undelivered
from hpo_service.worker.child import OBJECTIVE, Child, training_command
from hpo_service.worker.child_slot import ChildSlot, StartChild
from hpo_service.worker.child_watch import ChildWatch
from hpo_service.worker.device.hold import DeviceHold
from hpo_service.worker.handover import prepare_folder
from hpo_service.worker.held_trial import HeldTrial
from hpo_service.worker.held_trials import HeldTrials
from hpo_service.worker.options import WorkerOptions
from hpo_service.worker.outbox import Outbox
from hpo_service.worker.proof import Proof
from hpo_service.worker.shutdown import ShutdownSignals
from hpo_service.worker.streak import Streak
from hpo_service.worker.sweep import Ended, sweep

TICK_SECONDS = 0.5
"""Longest wait for a message before signals, leases and hangs are looked at again."""
IDLE_SECONDS = (0.3, 3.0)
"""First and longest pause between two looks for work, before jitter."""
RENEWALS_PER_LEASE = 4
"""Leases are renewed this often within their length, so that three lost renewals do no harm."""
REAP_SECONDS = 10.0
"""Longest pause between two runs of the reaper, before jitter; a worker without work runs it as often as it asks."""
BEAT_SECONDS = 20.0
"""Pause between two signs of life of a worker that holds nothing."""
LEFT_SECONDS = 600.0
"""How long a worker stays away from a study whose trials failed on it, while it serves others."""
WHOLE_TIME = 0.9
"""A worker that has this share of its time left and may claim nothing for lack of time never will."""
SWEEP_SECONDS = 60.0
"""Pause between two looks for checkpoints of trials that have ended, of a worker without work."""

GiveUp = Callable[[int, Callable[[str], bool]], Collection[str]]
"""Gives up adapters that are kept no longer."""

log = logging.getLogger(__name__)


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
        sleep: Callable[[float], object] = time.sleep,
        start_child: StartChild = Child,
        look_at_machine: Callable[[], object] = lambda: None,
        device_users: Callable[[], Collection[int]] = tuple,
        ended: Ended = lambda _: (),
        give_up_adapters: GiveUp = lambda *_: (),
    ) -> None:
        """Prepare a worker.

        Args:
            queue: where trials come from and reports go to.
            stages: advances studies when there is nothing else to do.
            reaper: takes trials back from silent workers.
            finished: tells whether the study this worker serves has ended (only asked with `until_finished`).
            options: identity, folders, limits.
            clock: monotonic seconds.
            sleep: waits that many seconds while there is no child to listen to.
            start_child: starts the process that trains.
            look_at_machine: raises UnfitWorkerError where no trial could run here.
            device_users: numbers of the processes that hold memory of this worker's device.
            ended: tells which trials have ended, so that their checkpoints are removed.
            give_up_adapters: tells, for a trial that has ended and what this worker reaches, which adapters are to go.
        """
        self._queue = queue
        self._stages = stages
        self._reaper = reaper
        self._finished = finished
        self._ended, self._give_up_adapters = ended, give_up_adapters
        self._options = options
        self._clock, self._sleep = clock, sleep
        self._jitter = random.Random(options.id)
        self._outbox = Outbox(clock, self._jitter)
        logs = log_folder(options.output)
        prune(logs, "worker-*.log")
        log_file = logs / f"worker-{options.id}.log"
        self._slot = ChildSlot(log_file, options.environment, clock, start_child)
        self._held = HeldTrials(queue, self._outbox, self._slot, clock, self._freed)
        self._removal = Removal(options.store, options.output)
        self._watch = ChildWatch(queue, self._held, self._slot, clock)
        self._shutdown = ShutdownSignals(clock, options.drain_seconds)
        self._look_at_machine = look_at_machine
        self._device = DeviceHold(device_users, clock)
        self._proof = Proof(options, self._slot, self._watch, self._device, sleep)
        self._streak = Streak()
        self._left: dict[str, float] = {}
        self._unfit = ""
        self._claimed = 0
        self._aborted = False
        self._idle = IDLE_SECONDS[0]
        self._stop_at = None if options.seconds is None else clock() + options.seconds
        self._idle_since: float | None = None
        self._claim_at = self._renew_at = self._reap_at = self._sweep_at = 0.0

    def run(self) -> None:
        """Work until there is nothing left to do, or until told to stop.

        Raises:
            UnfitWorkerError: no trial can run here, or several in a row failed; none is held any more.
            OutOfTimeError: its time is up and there is more to do; none is held any more.
        """
        with self._shutdown:
            try:
                self._prove()
                while not self._done():
                    self._obey_signals()
                    self._outbox.flush()
                    # before others' leases are looked at: this process may have slept with its machine
                    self._renew()
                    self._reap()
                    self._claim()
                    self._listen()
                    self._watch.end_if_stuck()
                self._sweep()
            finally:
                self._slot.close()
                self._removal.close()
        if (self._unfit or self._shutdown.out_of_time) and not self._nothing_left():
            raise UnfitWorkerError(self._unfit) if self._unfit else OutOfTimeError(self._shutdown.reason)

    def _prove(self) -> None:
        """See that trials can run here before one is claimed."""
        if self._done():
            return
        self._look_at_machine()
        while not self._shutdown.reason and not self._proof.given():
            self._renew()
        if self._shutdown.reason:
            self._slot.kill()

    def _nothing_left(self) -> bool:
        return self._options.until_finished and self._outbox.ask(self._finished, default=False)

    def _done(self) -> bool:
        if self._held or len(self._outbox):
            return self._aborted
        if self._shutdown.reason:
            return True
        if self._options.max_trials is not None and self._claimed >= self._options.max_trials:
            return True
        return self._nothing_left()

    # --- signals -----------------------------------------------------------------------------------------------

    def _obey_signals(self) -> None:
        if self._stop_at is not None and self._clock() >= self._stop_at:
            self._shutdown.time_is_up(f"the worker's time of {self._options.seconds:.0f} s is up")
        if self._shutdown.begin():
            log.info("%s: saving checkpoints and giving trials back", self._shutdown.reason)
            for held in self._held:
                self._held.pass_on(held, Decision(action="release", reason=self._shutdown.reason))
        if self._shutdown.at_once:
            self._abort()

    def _abort(self) -> None:
        """Give up on checkpoints: end the child and give the trials back as they are."""
        self._aborted = True
        self._slot.kill()
        self._outbox.hurry()
        for held in self._held.live:
            reason = f"{self._shutdown.reason}; aborted before it could save"
            self._held.finish(held, held.broken_off(OutcomeKind.RELEASED, reason))
        self._outbox.flush()

    # --- claiming ----------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        while self._may_claim():
            serving = next((h.assignment.study for h in self._held), self._options.study)
            together = self._room if self._held.live else 1
            claim = functools.partial(
                self._queue.claim, self._options.id, serving, together, self._studies_left(), self._limits
            )
            claimed = self._outbox.ask(claim, default=None)
            if isinstance(claimed, Copied):
                return  # the next round claims again, after a look at signals and leases
            if isinstance(claimed, Withheld):
                self._obey_limits(claimed)
                claimed = None
            if claimed is None:
                self._nothing_to_do()
                return
            self._admit(claimed)

    @property
    def _limits(self) -> Limits:
        left = None if self._stop_at is None else self._stop_at - self._clock()
        return Limits(self._options.max_device_hours, left)

    def _obey_limits(self, withheld: Withheld) -> None:
        """Leave where there are trials, but none for this worker; not while it holds one."""
        if self._held or (self._options.study is None and not withheld.out_of_time):
            return
        log.info("no trial is taken up: %s", withheld.reason)
        whole, left = self._options.seconds or 0.0, self._limits.seconds_left or 0.0
        if not withheld.out_of_time:
            self._shutdown.ask(withheld.reason)
        elif left > WHOLE_TIME * whole:
            self._unfit = f"{withheld.reason}: give workers more time (--time-limit, or the scheduler's own limit)"
            self._shutdown.ask(self._unfit)
        else:
            self._shutdown.time_is_up(withheld.reason)

    @property
    def _room(self) -> int:
        """Trials that may be held: what the child offers, but no more than the study of those that it has allows."""
        return min([self._slot.slots, *(held.assignment.slots for held in self._held.live)])

    def _may_claim(self) -> bool:
        limit = self._options.max_trials
        return (
            not self._shutdown.reason
            and len(self._held.live) < self._room
            and self._clock() >= self._claim_at
            and not len(self._outbox)
            and (limit is None or self._claimed < limit)
            and not (self._slot.child is None and self._device_held())
        )

    def _device_held(self) -> bool:
        held = self._device.held(self._slot.swept)
        if held:
            self._claim_at = self._clock() + TICK_SECONDS
        return held

    def _freed(self, held: HeldTrial, state: TrialState | None, outcome: Outcome | None) -> None:
        self._claim_at = 0.0
        if state is None or outcome is None:
            return
        if state.final:
            ended = held.assignment
            self._removal.checkpoints(ended.study, ended.key, ended.identity)
        if outcome.adapter is not None:
            ask = functools.partial(self._give_up_adapters, held.assignment.lease.trial_id, self._removal.reaches)
            self._removal.adapters(self._outbox.ask(ask, default=()))
        if outcome.kind is OutcomeKind.ERROR:
            # where every trial must fail, the study ends, or pauses, before its whole budget has
            self._outbox.ask(self._stages.advance_all, default=False)
        reason = self._streak.note(held, outcome)
        if reason is not None:
            self._leave(held.assignment.study, reason)

    def _leave(self, study: str, reason: str) -> None:
        """Take no more trials of a study: for good where there is no other to serve, else for a while."""
        log.warning("%s: it takes no more of them", reason)
        if self._options.study is not None:
            self._unfit = reason
            self._shutdown.ask(reason)
        self._left[study] = self._clock() + LEFT_SECONDS

    def _studies_left(self) -> frozenset[str]:
        return frozenset(study for study, until in self._left.items() if self._clock() < until)

    def _nothing_to_do(self) -> None:
        if self._outbox.ask(self._stages.advance_all, default=False):
            return
        if self._clock() >= self._sweep_at:
            self._sweep()
        self._leave_if_idle()
        self._claim_at = self._clock() + self._idle * self._jitter.uniform(0.5, 1.0)
        self._idle = min(IDLE_SECONDS[1], 1.5 * self._idle)
        # whoever has nothing to do looks for what dead workers left whenever it looks for work
        self._reap_at = min(self._reap_at, self._claim_at)

    def _leave_if_idle(self) -> None:
        """Leave after a while without a trial; an outage of the database says nothing about trials."""
        if self._held or self._outbox.database_away:
            self._idle_since = None
            return
        self._idle_since = self._clock() if self._idle_since is None else self._idle_since
        patience = self._options.idle_seconds
        if patience is not None and self._clock() - self._idle_since >= patience:
            log.info("no trial was found for %g s: the worker leaves", patience)
            self._shutdown.ask(f"no trial was found for {patience:g} s")

    def _admit(self, assignment: Assignment) -> None:
        self._idle, self._idle_since = IDLE_SECONDS[0], None
        self._claimed += 1
        held = HeldTrial(
            assignment=assignment,
            folder=AttemptFolder.of(self._options.output, assignment),
            expires=self._clock() + assignment.lease_seconds,
        )
        self._held.add(held)
        self._renew_at = min(self._renew_at, self._clock() + assignment.lease_seconds / RENEWALS_PER_LEASE)
        resumes = prepare_folder(held.folder, assignment)
        self._child_for(held).send(Admit(assignment=assignment, folder=held.folder.path, store=self._options.store))
        if resumes:
            for report in read_undelivered(held.folder, assignment.attempt, assignment.identity):
                self._held.report(held, report)
        log.info("%s #%d, attempt %d", assignment.stage, assignment.number, assignment.attempt)
        reach("child.admitted")

    def _child_for(self, held: HeldTrial) -> Child:
        """Return the child that runs trials of this kind, started if need be.

        Raises:
            ChildError: it cannot be started; the trial was given back, for the fault is this machine's.
        """
        own = held.assignment.config.objective is not None
        command = OBJECTIVE if own else training_command(held.assignment.gpus)
        try:
            return self._slot.child_for(command, alone=self._held.live == [held])
        except OSError as error:
            reason = f"worker {self._options.id} cannot start a child process: {error}"
            self._held.finish(held, held.broken_off(OutcomeKind.RELEASED, reason))
            raise ChildError(f"{reason}; see that {self._slot.log} can be written and memory is left") from error

    # --- waiting -------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        wait = 0.0 if self._may_claim() else TICK_SECONDS
        if not self._held:
            wait = min(wait, max(0.0, self._claim_at - self._clock()))
        if self._slot.child is None:
            self._sleep(wait)
        else:
            self._watch.listen(wait)

    # --- the database ------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        if self._clock() < self._renew_at:
            return
        ours = [held for held in self._held if not held.lost]
        leases = [held.assignment.lease_seconds / RENEWALS_PER_LEASE for held in ours]
        asked_at = self._clock()
        progress = {held.assignment.lease: held.progress for held in ours}
        renew = functools.partial(self._queue.renew, self._options.id, progress, self._slot.doing(len(ours)))
        renewal = self._outbox.ask(renew, default=None)
        if renewal is not None:
            self._renew_at = asked_at + min(leases, default=BEAT_SECONDS)
            if renewal.draining:
                self._shutdown.ask("the worker was told to drain")
        for held in ours:
            decision = renewal.decisions.get(held.assignment.lease) if renewal is not None else None
            if decision is None:
                self._expire(held)
                continue
            held.expires = asked_at + held.assignment.lease_seconds
            if decision.action == "abandon":
                self._held.lose(held, decision.reason)
            else:
                self._held.pass_on(held, decision)

    def _expire(self, held: HeldTrial) -> None:
        """Stop a trial whose lease may have passed to somebody else while the database was away."""
        if self._clock() > held.expires:
            reason = f"the database was away for longer than the lease of {held.assignment.lease_seconds:g} s"
            self._held.pass_on(held, Decision(action="abandon", reason=reason))

    def _reap(self) -> None:
        """Take trials back from silent workers. Its own are named: after a jump of the clock every lease looks over."""
        if self._clock() < self._reap_at:
            return
        ours = frozenset(held.assignment.lease.trial_id for held in self._held if not held.lost)
        self._outbox.ask(functools.partial(self._reaper.reap, ours), default=[])
        self._reap_at = self._clock() + REAP_SECONDS * self._jitter.uniform(0.5, 1.0)

    def _sweep(self) -> None:
        """Remove checkpoints that trials left which ended without their holder."""
        self._sweep_at = self._clock() + SWEEP_SECONDS
        with contextlib.suppress(OSError):
            sweep(self._options.output, self._known_as_ended, self._removal.checkpoints)

    def _known_as_ended(self, found: Collection[str]) -> Collection[str]:
        return self._outbox.ask(lambda: self._ended(found), default=())
