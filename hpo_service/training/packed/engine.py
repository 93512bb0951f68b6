"""The packed engine: admits trials that fit together, trains them in one forward, and replaces those that end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hpo_service.channel import Host, RunTrial, Stopped, TrialLink
from hpo_service.domain.trial import Outcome, OutcomeKind, Scores, TrialConfig
from hpo_service.errors import DoesNotFitError, ModelError
from hpo_service.training.ending import conclude, run_facts
from hpo_service.training.faults import is_fatal, is_out_of_memory
from hpo_service.training.job import Job
from hpo_service.training.oom import Strain
from hpo_service.training.packed.eligible import base_refusal, refusal
from hpo_service.training.packed.pack import Pack
from hpo_service.training.packed.probe import Verdict, measure
from hpo_service.training.packed.slot import Slot
from hpo_service.training.residents import Residents
from hpo_service.training.trackers import Trackers
from hpo_service.training.watch import Step

log = logging.getLogger(__name__)


@dataclass
class PackedEngine:
    """Trains several trials at once; what it cannot pack it hands to `alone`."""

    residents: Residents
    alone: RunTrial
    clock: Callable[[], float] = time.monotonic
    _verdicts: dict[str, Verdict] = field(default_factory=dict)

    def serve(self, host: Host) -> None:
        """Take the trial that waits, and others like it as they come, until all of them have ended."""
        first = host.take()
        try:
            job = Job.of(first, self.residents, "packed")
            verdict = self._verdict(job)
        except Exception as error:
            fail(host, first, error)
            return
        host.offer(verdict.slots, verdict.reason)
        if verdict.slots == 1:
            host.attend(first, self.alone)
            return
        Crew(self, host, Pack(job.base, job.rows, self.clock), verdict.slots, first).work()

    def give_up(self, config: TrialConfig, slots: int, reason: str) -> None:
        """Serve no more than so many trials like this one from now on."""
        self._verdicts[_likeness(config)] = Verdict(slots, reason)

    def _verdict(self, job: Job) -> Verdict:
        """How many trials like this one are served at once: found out once."""
        config, admit = job.config, job.link.admit
        key = _likeness(config)
        if key not in self._verdicts:
            self._verdicts[key] = self._found(job)
        verdict = self._verdicts[key]
        slots = min(verdict.slots, admit.slots)
        return Verdict(slots, verdict.reason)

    def _found(self, job: Job) -> Verdict:
        reason = base_refusal(job.base.model)
        admit = job.link.admit
        try:
            if reason:
                return Verdict(1, reason)
            if not admit.measure:
                Pack(job.base, job.rows).close()
                return Verdict(admit.slots, f"the study asks for {admit.slots}")
            with job.link.busy("measuring how many trials to train side by side"):
                return measure(job, admit.slots)
        except ModelError as error:
            return Verdict(1, str(error))


class Crew:
    """One pack at work: who is on it, who comes and who goes."""

    def __init__(self, engine: PackedEngine, host: Host, pack: Pack, capacity: int, first: TrialLink) -> None:
        self._engine, self._host, self._pack, self._capacity = engine, host, pack, capacity
        self._first, self._clock = first, engine.clock

    def work(self) -> None:
        """Train until everyone has ended and nobody like them waits."""
        try:
            self._admit(self._first)
            while self._welcome():
                try:
                    self._tick()
                except Exception as error:
                    if not self._survive(error):
                        return
        finally:
            self._pack.close()

    def _welcome(self) -> bool:
        """Let go of trials that were told to end at once, admit those that wait; tell whether there are any."""
        host, pack = self._host, self._pack
        for slot in list(pack.slots):
            stop = slot.job.link.stop()
            if stop is not None and not stop.checkpoint:
                self._leave(slot, slot.job.link.stopped(slot.watch.course.value, _facts(slot)))
        while len(pack.slots) < self._capacity and (waiting := host.waiting()) is not None:
            if refusal(waiting.config) or _likeness(waiting.config) != _likeness(self._first.config):
                break
            self._admit(host.take())
        if host.waiting() is None and 2 * len(pack.slots) <= pack.room:
            pack.shrink()
        return bool(pack.slots)

    def _admit(self, link: TrialLink) -> None:
        began = self._clock()
        trackers = Trackers.start(link)
        try:
            job = Job.of(link, self._engine.residents, "packed")
            models = self._engine.residents.describe(link, job.base)
            with link.busy("setting up"):
                slot = self._pack.admit(job, self._capacity)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            trackers.end(Outcome(kind=OutcomeKind.ERROR, reason=reason))
            fail(self._host, link, error)
            return
        slot.watch.trackers = trackers
        link.started(slot.step / job.plan.steps, models)
        slot.setup_seconds = slot.device_seconds = self._clock() - began
        if slot.step == job.plan.steps:
            # an earlier attempt was lost after its last step
            self._end(slot)

    def _tick(self) -> None:
        """A micro-batch of every trial, and an optimizer step of those whose effective batch is full."""
        began, pack = self._clock(), self._pack
        shares = [slot.share() for slot in pack.slots]
        sums = pack.forward_backward(shares)
        parts = list(zip(pack.slots, shares, sums, strict=True))
        seconds = (self._clock() - began) / len(parts)
        full = [slot for slot, share, nll in parts if slot.take(share, nll, seconds)]
        for slot in pack.slots:
            slot.job.link.touch()
        if full:
            self._step(full)

    def _step(self, slots: Sequence[Slot]) -> None:
        began = self._clock()
        rates = [float(slot.optimizer.param_groups[0]["lr"]) for slot in slots]
        norms = self._pack.step(slots)
        share = (self._clock() - began) / len(slots)
        steps = [
            Step(slot.step, slot.nll, rate, norm, slot.tokens, slot.seconds + share)
            for slot, rate, norm in zip(slots, rates, norms, strict=True)
        ]
        for slot in slots:
            slot.device_seconds += share
            slot.taken, slot.nll, slot.seconds = 0, 0.0, 0.0
        self._evaluate([slot for slot, step in zip(slots, steps, strict=True) if _is_due(slot, step)])
        for slot, step in zip(slots, steps, strict=True):
            slot.watch.look(step)
            if slot.watch.ending is not None or slot.step == slot.job.plan.steps:
                self._end(slot)

    def _evaluate(self, slots: Sequence[Slot]) -> None:
        """Score the validation rows for all slots that are to be evaluated now, in the same passes."""
        if not slots:
            return
        began = self._clock()
        found = self._pack.evaluate(slots, "validation", slots[0].job.link.touch)
        share = (self._clock() - began) / len(slots)
        for slot, scores in zip(slots, found, strict=True):
            slot.watch.score = _constant(scores)
            slot.watch.seconds.evaluate += share
            slot.device_seconds += share

    def _end(self, slot: Slot) -> None:
        job, pack, began = slot.job, self._pack, self._clock()

        def score(rows: object) -> Scores:
            part = "test" if rows is job.rows.test else "validation"
            return pack.evaluate([slot], part, job.link.touch)[0]

        try:
            outcome = conclude(
                job,
                slot.watch,
                _facts(slot),
                score,
                lambda: pack.keep(slot),
                lambda prompts: pack.answer(slot, prompts),
            )
        except Exception as error:
            pack.evict(slot)
            fail(self._host, job.link, error)
            return
        seconds = slot.device_seconds + self._clock() - began
        self._leave(slot, outcome.model_copy(update={"facts": {**outcome.facts, "device_seconds": seconds}}))

    def _leave(self, slot: Slot, outcome: Outcome) -> None:
        self._pack.evict(slot)
        self._host.finish(slot.job.link, slot.watch.trackers.end(outcome))

    # --- what goes wrong ---------------------------------------------------------------------------------------

    def _survive(self, error: Exception) -> bool:
        """After an exception in the work of all, tell whether the pack goes on."""
        if is_out_of_memory(error):
            return self._make_do(error)
        log.error("the pack failed", exc_info=error)
        links = [slot.job.link for slot in self._pack.slots]
        if is_fatal(error):
            for link in links:
                self._host.fail(link, error)
            return False
        reason = f"trials were packed until one step failed ({type(error).__name__}): they are run one after another"
        self._disband(reason)
        # a strange error may have left the base somehow
        self._engine.residents.release()
        return False

    def _make_do(self, error: Exception) -> bool:
        """Go on with less memory: smaller passes, then fewer trials; what has to leave saves a checkpoint first."""
        pack = self._pack
        error.__traceback__ = None  # its frames hold the tensors that did not fit
        pack.rewind()
        if pack.halve_passes():
            log.warning("out of memory: passes of %d tokens from now on", pack.tokens)
            return True
        if len(pack.slots) == 1:
            self._disband("not even one packed trial fits into memory: they are run one after another")
            return False
        staying = len(pack.slots) // 2
        self._capacity = staying
        reason = f"out of memory with {len(pack.slots)} trials side by side: {staying} from now on"
        log.warning("%s", reason)
        self._offer(staying, reason)
        for slot in pack.slots[staying:]:
            with suppress(OSError):
                slot.watch.save()
            self._leave(slot, Outcome(kind=OutcomeKind.RELEASED, reason=reason, facts=_facts(slot)))
        pack.shrink()
        return True

    def _disband(self, reason: str) -> None:
        """Have every trial run alone, from its start."""
        self._offer(1, reason)
        for slot in reversed(self._pack.slots):
            self._pack.evict(slot)
            self._host.put_back(slot.job.link)

    def _offer(self, slots: int, reason: str) -> None:
        self._engine.give_up(self._first.config, slots, reason)
        self._host.offer(slots, reason)


def fail(host: Host, link: TrialLink, error: BaseException) -> None:
    """Tell how a trial ended that met an exception: an order to stop is one of them."""
    if isinstance(error, Stopped):
        host.finish(link, link.stopped())
    elif isinstance(error, DoesNotFitError):
        host.finish(link, Strain().infeasible(error))
    else:
        host.fail(link, error)


def _is_due(slot: Slot, step: Step) -> bool:
    return bool(slot.job.plan.due(step.number)) and math.isfinite(step.loss)


def _facts(slot: Slot) -> dict[str, float | int | str]:
    facts = run_facts(slot.job, slot.watch, slot.resumed_at, slot.refused, slot.trainable)
    timing = {"seconds_setup": slot.setup_seconds, "device_seconds": slot.device_seconds}
    return {**facts, **timing, "engine": "packed"}


def _likeness(config: TrialConfig) -> str:
    """What trials must have in common to share a pack: the same model held the same way, the same rows."""
    model = config.model.model_dump_json() if config.model is not None else ""
    data = config.data.model_dump_json() if config.data is not None else ""
    four_bit = config.training.method == "qlora"
    return f"{config.model_name} {four_bit} {model} {data}"


def _constant(scores: Scores) -> Callable[[], Scores]:
    return lambda: scores
