"""The packed engine: admits trials that fit together, trains them in one forward, and replaces those that end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpo_service.channel import Host, Stopped, TrialLink
from hpo_service.domain.trial import Outcome, Scores, TrialConfig
from hpo_service.training.ending import conclude, run_facts
from hpo_service.training.job import Job
from hpo_service.training.packed.eligible import refusal
from hpo_service.training.packed.pack import Pack
from hpo_service.training.packed.slot import Slot
from hpo_service.training.residents import Residents
from hpo_service.training.watch import Step

log = logging.getLogger(__name__)


@dataclass
class PackedEngine:
    """Trains up to `capacity` trials at once."""

    residents: Residents
    capacity: int = 1
    clock: Callable[[], float] = time.monotonic

    def serve(self, host: Host) -> None:
        """Take the trial that waits, and others like it as they come, until all of them have ended."""
        first = host.take()
        pack: Pack | None = None
        try:
            base = self.residents.base(first)
            pack = Pack(base, self.residents.rows(first, base), self.clock)
        except Exception as error:
            fail(host, first, error)
            return
        try:
            self._admit(host, pack, first)
            while self._welcome(host, pack, first.config):
                self._tick(host, pack)
        finally:
            pack.close()

    def _welcome(self, host: Host, pack: Pack, first: TrialConfig) -> bool:
        """Let go of trials that were told to end at once, admit those that wait; tell whether there are any."""
        for slot in list(pack.slots):
            stop = slot.job.link.stop()
            if stop is not None and not stop.checkpoint:
                pack.evict(slot)
                host.finish(slot.job.link, slot.job.link.stopped(slot.watch.course.value, self._facts(slot)))
        while len(pack.slots) < self.capacity and (waiting := host.waiting()) is not None:
            if not _alike(first, waiting.config):
                break
            self._admit(host, pack, host.take())
        if host.waiting() is None and 2 * len(pack.slots) <= pack.room:
            pack.shrink()
        return bool(pack.slots)

    def _admit(self, host: Host, pack: Pack, link: TrialLink) -> None:
        began = self.clock()
        try:
            job = Job.of(link, self.residents, "packed")
            models = self.residents.describe(link, job.base)
            with link.busy("setting up"):
                slot = pack.admit(job, self.capacity)
            link.started(slot.step / job.plan.steps, models)
            slot.setup_seconds = self.clock() - began
            slot.device_seconds = slot.setup_seconds
            if slot.step == job.plan.steps:
                # it was lost after its last step
                self._end(host, pack, slot)
        except Exception as error:
            fail(host, link, error)

    def _tick(self, host: Host, pack: Pack) -> None:
        """A micro-batch of every trial, and an optimizer step of those whose effective batch is full."""
        began = self.clock()
        shares = [slot.share() for slot in pack.slots]
        sums = pack.forward_backward(shares)
        parts = list(zip(pack.slots, shares, sums, strict=True))
        seconds = (self.clock() - began) / len(parts)
        full = [slot for slot, share, nll in parts if slot.take(share, nll, seconds)]
        for slot in pack.slots:
            slot.job.link.touch()
        if full:
            self._step(host, pack, full)

    def _step(self, host: Host, pack: Pack, slots: Sequence[Slot]) -> None:
        began = self.clock()
        rates = [float(slot.optimizer.param_groups[0]["lr"]) for slot in slots]
        norms = pack.step(slots)
        share = (self.clock() - began) / len(slots)
        self._evaluate(pack, [slot for slot in slots if slot.job.plan.due(slot.step) and math.isfinite(slot.nll)])
        for slot, rate, norm in zip(slots, rates, norms, strict=True):
            step = Step(slot.step, slot.nll, rate, norm, slot.tokens, slot.seconds + share)
            slot.device_seconds += share
            slot.taken, slot.nll, slot.seconds = 0, 0.0, 0.0
            slot.watch.look(step)
            if slot.watch.ending is not None or slot.step == slot.job.plan.steps:
                self._end(host, pack, slot)

    def _evaluate(self, pack: Pack, slots: Sequence[Slot]) -> None:
        """Score the validation rows for all slots that are to be evaluated now, in the same passes."""
        if not slots:
            return
        began = self.clock()
        found = pack.evaluate(slots, "validation", slots[0].job.link.touch)
        share = (self.clock() - began) / len(slots)
        for slot, scores in zip(slots, found, strict=True):
            slot.watch.score = _constant(scores)
            slot.watch.seconds.evaluate += share
            slot.device_seconds += share

    def _end(self, host: Host, pack: Pack, slot: Slot) -> None:
        job = slot.job
        try:
            outcome = self._conclude(pack, slot)
        except Exception as error:
            pack.evict(slot)
            fail(host, job.link, error)
            return
        pack.evict(slot)
        host.finish(job.link, outcome)

    def _conclude(self, pack: Pack, slot: Slot) -> Outcome:
        job = slot.job

        def score(rows: object) -> Scores:
            part = "test" if rows is job.rows.test else "validation"
            return pack.evaluate([slot], part, job.link.touch)[0]

        return conclude(job, slot.watch, self._facts(slot), score, lambda: pack.keep(slot))

    def _facts(self, slot: Slot) -> dict[str, float | int | str]:
        facts = run_facts(slot.job, slot.watch, slot.resumed_at, slot.refused, slot.trainable)
        timing = {"seconds_setup": slot.setup_seconds, "device_seconds": slot.device_seconds}
        return {**facts, **timing, "engine": "packed"}


def fail(host: Host, link: TrialLink, error: BaseException) -> None:
    """Tell how a trial ended that met an exception: an order to stop is one of them."""
    if isinstance(error, Stopped):
        host.finish(link, link.stopped())
    else:
        host.fail(link, error)


def _alike(first: TrialConfig, config: TrialConfig) -> bool:
    """Whether a trial may join: the same base held the same way, the same rows."""
    return not refusal(config) and (config.model, config.model_name, config.data) == (
        first.model,
        first.model_name,
        first.data,
    )


def _constant(scores: Scores) -> Callable[[], Scores]:
    return lambda: scores
