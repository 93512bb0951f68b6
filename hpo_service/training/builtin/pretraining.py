"""Training a small causal language model from scratch: model and plan in, trained model out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from hpo_service.errors import DataError
from hpo_service.training.files.node_cache import Progress

# A report a second or so at the sizes this is meant for, whatever the number of steps.
REPORTS = 50


@dataclass(frozen=True)
class PretrainingPlan:
    """How long and how fast to train: AdamW, linear warm-up, cosine decay to a tenth, gradients clipped.

    `batch_size` and `length` count blocks and tokens per block; `warmup` is a fraction of `steps`.
    """

    steps: int
    batch_size: int
    length: int
    learning_rate: float
    warmup: float = 0.05
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = max(1.0, self.warmup * self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        done = (step - warm) / max(1.0, self.steps - warm)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True)
class Outcome:
    """The mean training loss (nats per token) over the last tenth of the steps, and the tokens trained on."""

    loss: float
    tokens: int


def pretrain(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    plan: PretrainingPlan,
    seed: int,
    progress: Progress,
    threads: int | None = None,
) -> Outcome:
    """Train every weight of `model` in place on a stream of token ids.

    The same seed, threads and machine give the same weights.

    Args:
        model: a causal language model, as `Architecture.build` makes it.
        tokens: ids in one dimension; cut into blocks of `plan.length`, seen in a shuffled order, again and again.
        plan: steps, batch and learning rate.
        seed: of the order of the blocks.
        progress: told the loss about fifty times.
        threads: threads of the CPU; torch's own setting when left out.

    Raises:
        DataError: the stream is shorter than one batch.
    """
    blocks = tokens[: len(tokens) // plan.length * plan.length].view(-1, plan.length)
    if len(blocks) < plan.batch_size:
        raise DataError(
            f"{len(tokens)} tokens are too few to pre-train on: one batch takes {plan.batch_size * plan.length}; "
            "give more text, a smaller batch or shorter blocks"
        )
    optimizer = torch.optim.AdamW(_parameter_groups(model, plan.weight_decay), betas=(0.9, 0.95), fused=True)
    losses: list[float] = []
    model.train()
    with _threads(threads):
        for step, batch in zip(range(plan.steps), _batches(blocks, plan.batch_size, seed), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(step)
            loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), plan.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            if step % max(1, plan.steps // REPORTS) == 0:
                progress(f"loss {losses[-1]:.2f}", step / plan.steps)
    model.eval()
    tail = losses[-max(1, plan.steps // 10) :]
    return Outcome(sum(tail) / len(tail), plan.steps * plan.batch_size * plan.length)


def _batches(blocks: torch.Tensor, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless batches; every pass sees the blocks in a new order and drops the incomplete last batch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(blocks), generator=generator)
        for begin in range(0, len(order) - size + 1, size):
            yield blocks[order[begin : begin + size]]


def _parameter_groups(model: PreTrainedModel, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay, norms' scales do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    scales = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": scales, "weight_decay": 0.0}]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
