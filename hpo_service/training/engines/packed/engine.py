"""The packed engine: admits trials that fit together, trains them in one forward, and replaces those that end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.facts import EnvironmentFacts, RunFacts, TimingFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.scores import Scores
from hpo_service.errors import DoesNotFitError, ModelError, TrialError
from hpo_service.training.device.faults import is_fatal, is_out_of_memory
from hpo_service.training.engines.packed.eligible import NotPackedError, adapter_shape, likeness, refusal
from hpo_service.training.engines.packed.isolation import isolation_refusal
from hpo_service.training.engines.packed.pack import Pack
from hpo_service.training.engines.packed.probe import PackSize, measure, try_compiling
from hpo_service.training.engines.packed.slot import Slot
from hpo_service.training.run.device_memory import capacity_gb, release_memory
from hpo_service.training.run.job import Job
from hpo_service.training.run.loaded_models import LoadedModels
from hpo_service.training.run.monitor import Step
from hpo_service.training.run.oom import MemoryPressure, until_out_of_memory
from hpo_service.training.run.result import conclude, run_facts
from hpo_service.training.tracking.trackers import Trackers
from hpo_service.wire.child import Dispatcher, RunTrial, Stopped, TrialLink

log = logging.getLogger(__name__)


@dataclass
class PackedEngine:
    """Trains several trials at once; what it cannot pack it hands to `alone`."""

    loaded: LoadedModels
    alone: RunTrial
    clock: Callable[[], float] = time.monotonic
    _sizes: dict[str, PackSize] = field(default_factory=dict)
    _refused: dict[str, str] = field(default_factory=dict)

    def refusal(self, config: TrialConfig) -> str:
        """Why a trial has to be run alone, as far as that is known by now, or nothing."""
        return refusal(config) or self._refused.get(adapter_shape(config), "")

    def refuse(self, config: TrialConfig, reason: str) -> None:
        """Remember that trials with such adapters on such a base have to be run alone."""
        self._refused[adapter_shape(config)] = reason

    def serve(self, dispatcher: Dispatcher) -> None:
        """Take the trial that waits, and others like it as they come, until all of them have ended."""
        first, began = dispatcher.take_next(), self.clock()
        try:
            job = self.job(first)
            size = self._size(job)
        except NotPackedError as error:
            self.refuse(first.config, str(error))
            dispatcher.put_back(first)
            return
        except Exception as error:
            fail(dispatcher, first, error)
            return
        dispatcher.announce_capacity(size.slots, size.reason)
        if size.slots == 1:
            dispatcher.run(first, self.alone)
            return
        pack = Pack(job.base, job.rows, self.clock, compiled=size.compiled)
        pack.plan(job, size.slots)
        PackRun(self, dispatcher, pack, size.slots, first, began).work()

    def job(self, link: TrialLink) -> Job:
        """What a trial needs, checked against the device's memory as if it were alone on it; raises as `Job.of`."""
        return Job.of(link, self.loaded, "packed", pressure=MemoryPressure(capacity_gb=capacity_gb()))

    def give_up(self, config: TrialConfig, slots: int, reason: str) -> None:
        """Serve no more than so many trials like this one from now on."""
        self._sizes[likeness(config)] = PackSize(slots, reason)

    def _size(self, job: Job) -> PackSize:
        """How many trials like this one are served at once: found out once, and again where a stage asks for more."""
        key, asked = likeness(job.config), job.link.assignment.slots
        size = self._sizes.get(key)
        if size is None or (size.as_asked and size.slots < asked):
            size = self._sizes[key] = self._find_size(job)
        return replace(size, slots=min(size.slots, asked), as_asked=False)

    def _find_size(self, job: Job) -> PackSize:
        reason = isolation_refusal(job.base.model, job.base.key.compute)
        assignment = job.link.assignment
        if reason:
            return PackSize(1, reason)
        try:
            pack = Pack(job.base, job.rows)
        except ModelError as error:
            return PackSize(1, str(error))
        if not assignment.measure:
            asked = PackSize(assignment.slots, f"the study asks for {assignment.slots}", as_asked=True)
            with job.link.busy("seeing whether torch is to compile packed trials"):
                return try_compiling(job, asked)
        fitting, short = pack.plan(job, assignment.slots)
        if fitting == 1:
            return PackSize(1, f"there is memory for one trial: {short}")
        with job.link.busy("measuring how many trials to train side by side"):
            size = self._measure_size(job, fitting)
        return size if not short else replace(size, reason=f"{size.reason}; {short}")

    def _measure_size(self, job: Job, limit: int) -> PackSize:
        """The probe's answer; one that fails by no fault of the trial's says that trials run alone."""
        try:
            return try_compiling(job, measure(job, limit))
        except (Stopped, TrialError):
            raise
        except Exception as error:
            if is_fatal(error) and not is_out_of_memory(error):
                raise
            log.warning("packed trials were tried and failed", exc_info=error)
            reason = f"packing was tried and failed ({_words(error)})"
        # a strange error may have left the base somehow
        self.loaded.release()
        return PackSize(1, reason)


class PackRun:
    """One pack at work: who is on it, who comes and who goes."""

    def __init__(
        self, engine: PackedEngine, dispatcher: Dispatcher, pack: Pack, capacity: int, first: TrialLink, began: float
    ) -> None:
        """Put a pack together around its first trial, whose work began at `began` of the engine's clock."""
        self._engine, self._dispatcher, self._pack, self._capacity = engine, dispatcher, pack, capacity
        self._first, self._clock, self._shared_until = first, engine.clock, began
        self._draining = False

    def work(self) -> None:
        """Train until everyone has ended and nobody like them waits."""
        try:
            self._admit(self._first)
            while self._admit_waiting():
                self._tick()
        except Exception as error:
            self._recover(error)
        finally:
            self._pack.close()

    def _admit_waiting(self) -> bool:
        """Let go of trials that were told to end at once, admit those that wait; tell whether there are any."""
        dispatcher, pack = self._dispatcher, self._pack
        for slot in list(pack.slots):
            stop = slot.job.link.stop()
            if stop is not None and not stop.saves:
                self._finish(slot, slot.job.link.stopped(slot.monitor.history.value, self._facts(slot)))
        while not self._draining and len(pack.slots) < self._capacity and (waiting := dispatcher.waiting()) is not None:
            if self._engine.refusal(waiting.config) or likeness(waiting.config) != likeness(self._first.config):
                break
            self._admit(dispatcher.take_next())
        if len(pack.slots) < self._capacity and 2 * len(pack.slots) <= pack.places:
            pack.shrink()
        return bool(pack.slots)

    def _admit(self, link: TrialLink) -> None:
        self._share_time()
        # the first trial's share begins with what was loaded and measured for all
        began = self._shared_until
        trackers = Trackers.start(link)
        try:
            job = self._engine.job(link)
            models = self._engine.loaded.describe(link, job.base)
            with link.busy("setting up"):
                slot = self._pack.admit(job, self._capacity)
        except NotPackedError as error:
            self._engine.refuse(link.config, str(error))
            self._put_back(link, trackers, str(error))
            return
        except Exception as error:
            if is_out_of_memory(error):
                self._out_of_memory_at_admission(link, trackers)
            else:
                self._fail(link, trackers, error)
            return
        slot.monitor.trackers = trackers
        link.started(slot.step / job.plan.steps, models)
        self._shared_until = self._clock()
        slot.setup_seconds = self._shared_until - began
        slot.device_seconds += slot.setup_seconds
        if slot.step == job.plan.steps:
            # an earlier attempt was lost after its last step
            self._end(slot)

    def _tick(self) -> None:
        """A micro-batch of every trial, and an optimizer step of those whose effective batch is full."""
        began, pack = self._clock(), self._pack
        shares = [slot.share() for slot in pack.slots]
        sums, _ = until_out_of_memory(partial(pack.forward_backward, shares))
        if sums is None:
            self._reduce_memory()
            return
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
        found = self._pack.step(slots)
        share = (self._clock() - began) / len(slots)
        steps = [
            Step(slot.step, loss, rate, norm, slot.tokens, slot.seconds + share)
            for slot, rate, (loss, norm) in zip(slots, rates, found, strict=True)
        ]
        for slot in slots:
            slot.seconds = 0.0
        self._evaluate([slot for slot, step in zip(slots, steps, strict=True) if _is_due(slot, step)])
        for slot, step in zip(slots, steps, strict=True):
            slot.monitor.observe(step)
            if slot.monitor.early_end is not None or slot.step == slot.job.plan.steps:
                self._end(slot)

    def _evaluate(self, slots: Sequence[Slot]) -> None:
        """Score the validation rows that are due for all slots that are to be evaluated now, in the same passes."""
        if not slots:
            return
        began = self._clock()
        found = self._scores(slots, "watched")
        share = (self._clock() - began) / len(slots)
        for slot, scores in zip(slots, found, strict=True):
            slot.monitor.score = _constant(scores)
            slot.monitor.seconds.evaluate += share

    def _scores(self, slots: Sequence[Slot], part: str) -> list[Scores]:
        """Score rows with the adapters of some slots; where memory runs out in smaller passes, then of fewer at once.

        The optimizer step has been made by then, so that nothing may be lost on the way to its report.
        """
        pack = self._pack
        scores, error = until_out_of_memory(partial(pack.evaluate, slots, part, slots[0].job.link.touch))
        if scores is not None:
            return scores
        release_memory()
        if pack.halve_passes():
            log.warning("out of memory in evaluation: passes of %d tokens from now on", pack.tokens)
            return self._scores(slots, part)
        if len(slots) == 1:
            assert error is not None
            raise error
        half = len(slots) // 2
        return [*self._scores(slots[:half], part), *self._scores(slots[half:], part)]

    def _end(self, slot: Slot) -> None:
        job, pack = slot.job, self._pack

        def score(rows: object) -> Scores:
            return self._scores([slot], "test" if rows is job.rows.test else "validation")[0]

        try:
            outcome = conclude(
                job,
                slot.monitor,
                self._facts(slot),
                score,
                lambda: pack.save_adapter(slot),
                lambda prompts: pack.answer(slot, prompts),
            )
        except Exception as error:
            if is_out_of_memory(error):
                raise
            pack.evict(slot)
            self._fail(job.link, slot.monitor.trackers, error)
            return
        self._share_time()
        spent = RunFacts(timing=TimingFacts(device=slot.device_seconds))
        self._finish(slot, outcome.model_copy(update={"facts": outcome.facts | spent}))

    def _finish(self, slot: Slot, outcome: Outcome) -> None:
        self._pack.evict(slot)
        self._dispatcher.finish(slot.job.link, slot.monitor.trackers.end(outcome))

    def _facts(self, slot: Slot) -> RunFacts:
        self._share_time()
        return run_facts(slot.job, slot.monitor, slot.resumed_at, slot.refused, slot.trainable, alone=False) | RunFacts(
            timing=TimingFacts(setup=slot.setup_seconds, device=slot.device_seconds),
            environment=EnvironmentFacts(engine="packed"),
        )

    def _share_time(self) -> None:
        """Share the time since this was last done among those who hold the device now, whatever it was spent on."""
        if not self._pack.slots:
            return
        now = self._clock()
        for slot in self._pack.slots:
            slot.device_seconds += (now - self._shared_until) / len(self._pack.slots)
        self._shared_until = now

    # --- what goes wrong ---------------------------------------------------------------------------------------

    def _fail(self, link: TrialLink, trackers: Trackers, error: Exception) -> None:
        """End one trial by its own exception, or by an order to stop that was met where nothing is saved."""
        stopped = isinstance(error, Stopped)
        trackers.end(link.stopped() if stopped else Outcome(kind=OutcomeKind.ERROR, reason=_words(error)))
        fail(self._dispatcher, link, error)

    def _reduce_memory(self) -> None:
        """Go on with less memory: smaller passes, then fewer trials; what has to leave saves a checkpoint first."""
        pack = self._pack
        pack.rewind()
        release_memory()
        if pack.halve_passes():
            log.warning("out of memory: passes of %d tokens from now on", pack.tokens)
            return
        if len(pack.slots) == 1:
            self._run_alone("not even one packed trial fits into memory: they are run one after another")
            return
        staying = len(pack.slots) // 2
        reason = f"out of memory with {len(pack.slots)} trials side by side: {staying} from now on"
        self._shrink_to(staying, reason)
        for slot in pack.slots[staying:]:
            with suppress(OSError):
                slot.monitor.save()
            self._finish(slot, Outcome(kind=OutcomeKind.RELEASED, reason=reason, facts=self._facts(slot)))
        pack.shrink()

    def _out_of_memory_at_admission(self, link: TrialLink, trackers: Trackers) -> None:
        """Memory ran out when a trial was to be admitted: it waits for a pack of its own, or runs alone."""
        release_memory()
        rank = link.config.training.lora_rank
        if self._pack.slots:
            self._draining = True
            reason = f"no room for rank {rank} beside {len(self._pack.slots)} other trials: it waits for them to end"
            log.warning("trial %s: %s", link.trial, reason)
        else:
            reason = f"no room for {self._capacity} trials of rank {rank} side by side"
            self._engine.refuse(link.config, reason)
        self._put_back(link, trackers, reason)

    def _recover(self, error: Exception) -> None:
        """After an exception in the work of all: have them run alone, or fail them where the process is lost."""
        if isinstance(error, NotPackedError) or is_out_of_memory(error):
            self._run_alone(f"these trials cannot be packed: {_words(error)}")
            return
        log.error("the pack failed", exc_info=error)
        if is_fatal(error):
            for slot in list(self._pack.slots):
                self._fail(slot.job.link, slot.monitor.trackers, error)
            return
        self._run_alone(f"a step of packed trials failed ({type(error).__name__}): they are run one after another")
        # a strange error may have left the base somehow
        self._engine.loaded.release()

    def _run_alone(self, reason: str) -> None:
        """Have every trial run alone, from its start."""
        self._shrink_to(0, reason)
        for slot in reversed(self._pack.slots):
            self._put_back(slot.job.link, slot.monitor.trackers, reason)
        self._pack.slots.clear()

    def _put_back(self, link: TrialLink, trackers: Trackers, reason: str) -> None:
        trackers.end(Outcome(kind=OutcomeKind.RELEASED, reason=reason))
        self._dispatcher.put_back(link)

    def _shrink_to(self, slots: int, reason: str) -> None:
        """Admit no more than so many from now on; with none left, trials like these run alone."""
        log.warning("%s", reason)
        self._capacity = slots
        self._engine.give_up(self._first.config, max(1, slots), reason)
        self._dispatcher.announce_capacity(max(1, slots), reason)


def fail(dispatcher: Dispatcher, link: TrialLink, error: BaseException) -> None:
    """Tell how a trial ended that met an exception: an order to stop is one of them."""
    if isinstance(error, Stopped):
        dispatcher.finish(link, link.stopped())
    elif isinstance(error, DoesNotFitError):
        dispatcher.finish(link, MemoryPressure().infeasible(error))
    else:
        dispatcher.fail(link, error)


def _is_due(slot: Slot, step: Step) -> bool:
    return bool(slot.job.plan.due(step.number)) and math.isfinite(step.loss)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _constant(scores: Scores) -> Callable[[bool], Scores]:
    return lambda _whole: scores
