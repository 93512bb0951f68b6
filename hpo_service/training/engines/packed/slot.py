"""One trial of a pack: where it stands in its data, its optimizer and its schedule."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import get_scheduler

from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.training.engines.packed.dropout import row_keys
from hpo_service.training.engines.packed.passes import Index, RowTable, Share
from hpo_service.training.engines.packed.stack import Adapter, Factors
from hpo_service.training.engines.row_order import row_order
from hpo_service.training.run.job import Job
from hpo_service.training.run.monitor import Monitor
from hpo_service.training.run.schedules import SCHEDULES, own_schedule
from hpo_service.training.run.steps import StepPlan

STATE_NAME = "slot.safetensors"
STATE_KINDS = ("weight", "first", "second")


@dataclass(eq=False)
class Slot:
    """A trial and its place `index` in the stack.

    Attributes:
        step: optimizer steps made.
        taken: rows of the effective batch under way that have been through the base.
        sums: of each micro-batch of the effective batch under way its part of the loss, on the device.
        tokens: seen so far, padding left out.
        seconds: of training since the last step; a tick's are shared equally by who takes part.
        device_seconds: its share of the time of the packs it was in.
        setup_seconds: those of them that it took to be admitted, and to load what the first trial of a pack needs.
    """

    job: Job
    monitor: Monitor
    adapter: Adapter
    table: RowTable
    index: int
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    trainable: int
    resumed_at: int = 0
    refused: str = ""
    step: int = 0
    taken: int = 0
    sums: list[torch.Tensor] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    setup_seconds: float = 0.0
    _order: tuple[int, Index] | None = field(default=None, repr=False)

    @property
    def batch(self) -> Index:
        """Row numbers of the effective batch under way; the last of an epoch may be smaller."""
        size = self.job.config.training.effective_batch
        epoch, step = divmod(self.step, self.steps_per_epoch)
        return self._order_of(epoch)[step * size : (step + 1) * size]

    @property
    def rows_due(self) -> int:
        """Validation rows of an evaluation after the step that was just made: all of them after the last one."""
        job = self.job
        return len(job.rows.validation if self.step == job.plan.steps else job.watched)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the rows."""
        return self.job.plan.steps // self.job.config.training.epochs

    def share(self) -> Share:
        """The rows of the next micro-batch."""
        batch, micro = self.batch, self.job.plan.micro_batch
        rows = batch[self.taken : self.taken + micro]
        dropout = self.adapter.dropout
        keys = row_keys(self.job.config.seed, self.step, len(batch)) if dropout else None
        return Share(
            slot=self.index,
            rows=rows,
            owners=np.full(len(rows), self.index),
            weight=1 / float((self.table.supervised[batch] * self.table.weights[batch]).sum()),
            keys=None if keys is None else keys[self.taken : self.taken + micro],
            dropout=dropout,
        )

    def take(self, share: Share, nll: torch.Tensor, seconds: float) -> bool:
        """Note that a micro-batch has been through; tell whether the effective batch is full."""
        self.taken += len(share.rows)
        self.sums.append(nll)
        self.tokens += int(self.table.lengths[share.rows].sum())
        self.seconds += seconds
        return self.taken >= len(self.batch)

    def end_batch(self, sums: Iterator[float]) -> float:
        """Begin the next effective batch; return the last one's loss, the sum of what its micro-batches gave.

        The loss is in nats a token; `sums` gives one number for each of `self.sums`, in order.
        """
        loss = sum(next(sums) for _ in self.sums)
        self.taken, self.sums = 0, []
        return loss

    def rewind(self) -> None:
        """Go back to the last optimizer step: the micro-batches since then are to be taken again."""
        for share in self.batch[: self.taken]:
            self.tokens -= int(self.table.lengths[share])
        self.taken, self.sums = 0, []

    def _order_of(self, epoch: int) -> Index:
        """The order in an epoch of the rows it is trained on."""
        if self._order is None or self._order[0] != epoch:
            config = self.job.config
            self._order = epoch, row_order(config.training.order, self.job.train.lengths, config.seed, epoch)
        return self._order[1]


def adamw(spec: TrainingSpec) -> torch.optim.AdamW:
    """The Trainer's default optimizer for one vector of weights, which `Pack` gives it."""
    return torch.optim.AdamW(
        [torch.nn.Parameter(torch.zeros(0))], lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True
    )


def schedule(job: Job, optimizer: torch.optim.Optimizer, step: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The Trainer's schedule over a trial's full run, as it stands after so many steps."""
    made = build_schedule(job.config.training, optimizer, job.plan)
    with warnings.catch_warnings():
        # it asks for an optimizer step before; those were made by an earlier attempt
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(step):
            made.step()
    return made


def build_schedule(
    spec: TrainingSpec, optimizer: torch.optim.Optimizer, plan: StepPlan
) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule that the Trainer would make."""
    warmup = min(plan.warmup_steps, plan.steps - 1)
    own = own_schedule(spec, optimizer, warmup, plan.steps)
    if own is not None:
        return own
    arguments = SCHEDULES[spec.scheduler].arguments(spec) or None
    made: torch.optim.lr_scheduler.LRScheduler = get_scheduler(
        spec.scheduler, optimizer, warmup, plan.steps, scheduler_specific_kwargs=arguments
    )
    return made


def write_state(folder: Path, factors: dict[str, Factors], tokens: int) -> None:
    """Write weights and moments of a slot, by module, and the tokens it has seen."""
    tensors = {
        f"{kind}.{name}.{letter}": tensor.cpu().contiguous()
        for kind in STATE_KINDS
        for name, pair in factors[kind].items()
        for letter, tensor in zip("AB", pair, strict=True)
    }
    save_file({**tensors, "tokens": torch.tensor(tokens)}, folder / STATE_NAME)


def read_state(folder: Path) -> tuple[dict[str, Factors], int]:
    """Read what `write_state` wrote."""
    tensors = load_file(folder / STATE_NAME)
    tokens = int(tensors.pop("tokens"))
    factors: dict[str, Factors] = {kind: {} for kind in STATE_KINDS}
    for key in tensors:
        kind, _, rest = key.partition(".")
        name, _, letter = rest.rpartition(".")
        if letter == "A":
            factors[kind][name] = (tensors[key], tensors[f"{kind}.{name}.B"])
    return factors, tokens
