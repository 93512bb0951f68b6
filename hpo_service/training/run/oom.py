"""What a run does when memory runs out: smaller micro-batches from the last optimizer step on, the rest unchanged."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import TrainerCallback, TrainerState

from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import estimate
from hpo_service.domain.memory.fit import LEAST_OVER_GB, remedies
from hpo_service.domain.trial.facts import MemoryFacts, RunFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.scores import Scores
from hpo_service.errors import DoesNotFitError
from hpo_service.training.device.environment import peak_memory_gb
from hpo_service.training.device.faults import is_out_of_memory
from hpo_service.training.run.checkpoint import CheckpointStore, Running
from hpo_service.training.run.device_memory import Need, release_memory
from hpo_service.training.run.history import History
from hpo_service.training.run.monitor import Seconds

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass
class MemoryPressure:
    """What one trial has had to give up because memory ran out, over all its beginnings in this process.

    Attributes:
        capacity_gb: what the device has for this process, where it is known.
        limit: the largest micro-batch still tried; None before the first halving.
        halvings: how often the micro-batch was halved.
        evaluation_tokens: padded tokens of one evaluation batch; None where it was never cut.
        suffered: whether memory ran out at all: the process must then be replaced after the trial.
        seconds: time spent, over all beginnings.
        seconds_setup: time spent on loading, likewise.
        resumed_at: the step at which the first of them went on; None before it.
    """

    capacity_gb: float | None = None
    limit: int | None = None
    halvings: int = 0
    evaluation_tokens: int | None = None
    suffered: bool = False
    seconds: Seconds = field(default_factory=Seconds)
    seconds_setup: float = 0.0
    resumed_at: int | None = None

    def begins_at(self, step: int) -> bool:
        """Note at which step training begins; tell whether this is the first time."""
        first = self.resumed_at is None
        if first:
            self.resumed_at = step
        return first

    def halve(self, micro_batch: int, need: Need, error: Exception | None) -> None:
        """Allow only half the micro-batch from now on.

        Raises:
            DoesNotFitError: it was one row already.
        """
        self.suffered = True
        if micro_batch == 1:
            doing = f"training on one row of up to {need.longest} tokens at a time"
            raise too_large(need.demand, self.capacity_gb, doing)
        self.limit = micro_batch // 2
        self.halvings += 1
        log.warning("out of memory at micro-batch %d: going on with smaller ones (%s)", micro_batch, error)

    def score(self, score: Callable[[int], Scores], tokens: int, need: Need) -> Scores:
        """Score rows with batches of at most `tokens` padded tokens, or of fewer where memory runs out.

        Raises:
            DoesNotFitError: not even the longest row alone fits.
        """
        while True:
            allowed = min(tokens, self.evaluation_tokens or tokens)
            scores, error = until_out_of_memory(partial(score, allowed))
            if scores is not None:
                return scores
            self.suffered = True
            release_memory()
            if allowed < need.longest:
                doing = f"evaluating one row of up to {need.longest} tokens at a time"
                raise too_large(need.demand, self.capacity_gb, doing)
            self.evaluation_tokens = allowed // 2
            log.warning("out of memory evaluating %d tokens at once: going on with half (%s)", allowed, error)

    def infeasible(self, error: DoesNotFitError) -> Outcome:
        """The outcome of a trial that does not fit; how far it is from fitting teaches the sampler."""
        self.suffered = self.suffered or error.ran_out
        memory = MemoryFacts(oom_halvings=self.halvings, over_gb=error.over_gb, estimate_gb=error.estimate_gb)
        facts = RunFacts(memory=memory)
        return Outcome(kind=OutcomeKind.INFEASIBLE, reason=str(error), restart=self.suffered, facts=facts)

    def facts(self, need: Need, case: str | None) -> MemoryFacts:
        """What a trial tells of its memory: peak, estimate, halvings, and by how much it stayed under the device's.

        Args:
            need: what it was thought to need.
            case: name under which its peak is compared with the estimate; None where the peak is not its own.
        """
        peak_gb = peak_memory_gb()
        facts = MemoryFacts(peak_gb=peak_gb, oom_halvings=self.halvings, evaluation_tokens=self.evaluation_tokens)
        if need.demand is None:
            return facts
        needed, over_gb = estimate(need.demand), None
        if self.capacity_gb is not None:
            used = peak_gb + needed.reserve_gb if torch.cuda.is_available() else needed.total_gb
            over_gb = min(0.0, used - self.capacity_gb)
        return facts.model_copy(update={"estimate_gb": needed.tensors_gb, "case": case, "over_gb": over_gb})


def too_large(demand: Demand | None, capacity_gb: float | None, doing: str) -> DoesNotFitError:
    """The refusal after memory ran out where nothing is left to cut; `demand` is None where it is not known."""
    there = "" if capacity_gb is None else f" of {capacity_gb:.2f} GB"
    needed = None if demand is None else estimate(demand)
    thought = "" if needed is None else f", thought to need {needed.total_gb:.2f} GB ({needed.wording()})"
    over = 0.0 if needed is None or capacity_gb is None else needed.total_gb - capacity_gb
    return DoesNotFitError(
        f"out of memory{there} {doing}{thought}: {remedies(demand)}",
        over_gb=max(LEAST_OVER_GB, over),
        estimate_gb=None if needed is None else needed.tensors_gb,
        ran_out=True,
    )


@dataclass
class LastStep(TrainerCallback):
    """Remembers, at every optimizer step, what a step that breaks off would spoil: counters and random states."""

    _live: dict[str, Any] = field(default_factory=dict)
    _state: TrainerState | None = None
    _random: tuple[Any, ...] = ()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """From here to the end of the step the weights may be between two states."""
        self._state = None

    def on_step_end(self, *given: Any, **live: Any) -> None:
        """The step has been made."""
        self._state, self._live = copy.copy(given[1]), live
        self._random = _random_states()

    def save(self, store: CheckpointStore, history: History) -> None:
        """Write a checkpoint of the last optimizer step, from which another beginning goes on exactly.

        Without a step in this process, and after a step that broke off in the optimizer itself, there is nothing to
        add to the checkpoints that are there; nor where the disk is full.
        """
        if self._state is None:
            return
        model, optimizer, scheduler = (self._live[name] for name in ("model", "optimizer", "lr_scheduler"))
        model.zero_grad(set_to_none=True)
        release_memory()
        _set_random_states(self._random)
        running = Running(model, optimizer, scheduler, self._state, getattr(optimizer, "scaler", None))
        try:
            store.save(self._state.global_step, history, running.write)
        except OSError as error:
            log.warning("no checkpoint of step %d could be written: %s", self._state.global_step, error)


def until_out_of_memory(work: Callable[[], Result]) -> tuple[Result | None, Exception | None]:
    """Do the work; return what came of it, or None and the error that said that memory ran out.

    Only once this has returned can the memory be released: until then the error's traceback holds the tensors.
    """
    try:
        return work(), None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None, error.with_traceback(None)


def _random_states() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return random.getstate(), np.random.get_state(), torch.random.get_rng_state(), cuda


def _set_random_states(states: tuple[Any, ...]) -> None:
    python, numpy, cpu, cuda = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.random.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda)
