"""How many trials side by side are worth it here: a few micro-batches of one, alone and in packs, on the real rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hpo_service.training.data.tokens import collate
from hpo_service.training.device.faults import is_out_of_memory
from hpo_service.training.engines.packed.pack import Pack
from hpo_service.training.models.adapter import trainable
from hpo_service.training.run.job import Job
from hpo_service.training.scoring.evaluation import autocast

# Micro-batches that are timed, after one that is not.
TIMED = 3
# A pack has to be faster by this factor than one trial after another, and a larger one than a smaller.
WORTH = 1.05
# Two may gain little where four gain much; a pack that is slower than the best so far by this factor ends the search.
HOPELESS = 0.8


@dataclass(frozen=True)
class PackSize:
    """How many trials to serve at once, and why; with `as_asked` no more were asked for, and more might do."""

    slots: int
    reason: str
    as_asked: bool = False


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
        micro, rows = job.plan.micro_batch, job.rows.train

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


def _packed(job: Job, slots: int, clock: Callable[[], float]) -> float:
    """Median seconds of a tick of so many copies, an optimizer step included."""
    pack = Pack(job.base, job.rows)
    pack.plan(job, slots)
    try:
        members = [pack.admit(job, slots) for _ in range(slots)]

        def tick(_number: int) -> None:
            shares = [slot.share() for slot in members]
            sums = pack.forward_backward(shares)
            for slot, share, nll in zip(members, shares, sums, strict=True):
                slot.take(share, nll, 0.0)
            pack.step(members)
            for slot in members:
                slot.step %= slot.job.plan.steps

        return _median(tick, job, clock)
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
