"""How many trials side by side are worth it here: a few micro-batches of one, alone and in packs, on the real rows."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch._dynamo

from hpo_service.errors import TrialError
from hpo_service.training.data.tokens import collate
from hpo_service.training.device.faults import is_fatal, is_out_of_memory
from hpo_service.training.engines.packed.compiled import layers_of
from hpo_service.training.engines.packed.pack import Pack
from hpo_service.training.models.adapter import trainable
from hpo_service.training.models.base import Base
from hpo_service.training.run.job import Job
from hpo_service.training.scoring.evaluation import autocast
from hpo_service.wire.child import Stopped

log = logging.getLogger(__name__)

# Micro-batches that are timed, after one that is not.
TIMED = 3
# A pack has to be faster by this factor than one trial after another, and a larger one than a smaller.
WORTH = 1.05
# Two may gain little where four gain much; a pack that is slower than the best so far by this factor ends the search.
HOPELESS = 0.8
# Compiling takes some ten seconds: it is tried where a trial trains for longer than this.
LONG_SECONDS = 30.0
# Relative difference of losses and gradient norms that rounding explains, by bytes of the compute type.
ROUNDED = {4: 1e-4, 2: 2e-2}


@dataclass(frozen=True)
class PackSize:
    """How many trials to serve at once, and why; with `as_asked` no more were asked for, and more might do.

    `compiled` says that torch compiles what they do.
    """

    slots: int
    reason: str
    as_asked: bool = False
    compiled: bool = False


def measure(job: Job, limit: int, clock: Callable[[], float] = time.perf_counter) -> PackSize:
    """Time packs of 2, 4, ... up to `limit` copies of a trial against the trial alone; the fastest per trial wins.

    Alone it goes through the same model and PEFT adapter in a bare loop, which flatters the solo engine: it spares
    what the Trainer adds to every step.
    """
    alone = _alone(job, clock)
    best, ratios = (1, 1.0), []
    slots = 2
    while slots <= limit:
        try:
            ratio = slots * alone / _packed(job, slots, clock)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            ratios.append(f"{slots}: out of memory")
            break
        job.link.check()
        ratios.append(f"{slots}: {ratio:.2f}x")
        if ratio >= best[1] * WORTH:
            best = (slots, ratio)
        elif ratio < best[1] * HOPELESS:
            break
        slots = limit if slots < limit < 2 * slots else 2 * slots
    found = f"against one trial after another, {', '.join(ratios)}"
    if best[0] == 1:
        return PackSize(1, f"packing does not pay here: {found}")
    return PackSize(best[0], f"measured on this device, {found}", as_asked=best[0] == limit)


def _alone(job: Job, clock: Callable[[], float]) -> float:
    """Median seconds of a micro-batch with an optimizer step, by PEFT alone."""
    spec, base = job.config.training, job.base
    with trainable(base.model, spec, job.config.seed) as model:
        model.train()
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=0.0, fused=True)
        micro, rows = job.plan.micro_batch, job.train

        def step(number: int) -> None:
            chosen = [rows[(number * micro + k) % len(rows)] for k in range(micro)]
            batch = {name: value.to(base.model.device) for name, value in collate(chosen, base.padding).items()}
            with autocast(base.model.device, base.key.compute):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return _median(step, job, clock)


def try_compiling(job: Job, size: PackSize, clock: Callable[[], float] = time.perf_counter) -> PackSize:
    """Have torch compile what a pack of this size does, where that is faster and gives the same losses and gradients.

    It is tried on GPUs alone: on a CPU it needs a C++ compiler, takes a minute, and brings nothing. torch's own
    variable TORCHDYNAMO_DISABLE=1 switches it off.
    """
    if size.slots == 1 or not can_compile(job.base):
        return size
    plain = _packed_ticks(job, size.slots, clock)
    if plain.seconds * job.plan.steps < LONG_SECONDS:
        return size
    began = clock()
    try:
        compiled = _packed_ticks(job, size.slots, clock, compiled=True)
    # the compiler reaches into Triton and the machine's C compiler, which raise what they like
    except Exception as error:
        if (is_fatal(error) and not is_out_of_memory(error)) or isinstance(error, (Stopped, TrialError)):
            raise
        log.warning("torch cannot compile packed trials here", exc_info=error)
        return replace(size, reason=f"{size.reason}; torch cannot compile them here ({type(error).__name__})")
    took, ratio, apart = clock() - began, plain.seconds / compiled.seconds, plain.apart(compiled)
    if not apart <= ROUNDED[min(4, job.base.key.compute.itemsize)]:
        return replace(size, reason=f"{size.reason}; compiled, they would differ by {apart:.1g}: not done")
    found = f"compiled by torch {ratio:.2f}x as fast ({took:.0f} s to compile)"
    if ratio < WORTH:
        return replace(size, reason=f"{size.reason}; {found}: not done")
    return replace(size, reason=f"{size.reason}; {found}", compiled=True)


def can_compile(base: Base) -> bool:
    """Whether torch may compile here, and the base says what its layers are."""
    return base.model.device.type == "cuda" and not torch._dynamo.config.disable and bool(layers_of(base.model))


@dataclass(frozen=True)
class _Ticks:
    """Median seconds of a tick with its optimizer steps, and each trial's loss and gradient norm in the first."""

    seconds: float
    first: list[tuple[float, float]]

    def apart(self, other: _Ticks) -> float:
        """Largest relative difference of a loss or norm; NaN where one is not a number."""
        ours, theirs = np.asarray(self.first), np.asarray(other.first)
        return float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(ours), 1e-12)))


def _packed(job: Job, slots: int, clock: Callable[[], float]) -> float:
    """Median seconds of a tick of so many copies, an optimizer step included."""
    return _packed_ticks(job, slots, clock).seconds


def _packed_ticks(job: Job, slots: int, clock: Callable[[], float], *, compiled: bool = False) -> _Ticks:
    """Time ticks of so many copies of a trial."""
    pack, found = Pack(job.base, job.rows, compiled=compiled), []
    pack.plan(job, slots)
    try:
        members = pack.admit_copies(job, slots)

        def tick(_number: int) -> None:
            shares = [slot.share() for slot in members]
            sums = pack.forward_backward(shares)
            for slot, share, nll in zip(members, shares, sums, strict=True):
                slot.take(share, nll, 0.0)
            found.append(pack.step(members))
            for slot in members:
                slot.step %= slot.job.plan.steps

        seconds = _median(tick, job, clock)
        return _Ticks(seconds, found[0])
    finally:
        pack.close()


def _median(step: Callable[[int], None], job: Job, clock: Callable[[], float]) -> float:
    times = []
    for number in range(TIMED + 1):
        began = clock()
        step(number)
        if job.base.model.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - began)
        job.link.touch(activity="measuring how many trials to train side by side")
    return statistics.median(times[1:])
