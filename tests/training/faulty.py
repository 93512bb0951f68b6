"""Faults put into a run at a chosen place: memory that runs out, numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import Trainer

from hpo_service.training.engines import solo

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
CPU = "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
ERRORS: list[Callable[[], Exception]] = [
    lambda: torch.cuda.OutOfMemoryError(CUDA),
    lambda: RuntimeError(CPU),
    MemoryError,
]


class Faults:
    """Counts micro-batches, optimizer steps and evaluations from 1, and breaks the ones it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.micro_batches = 0
        self.sizes: list[int] = []

    def forward(self, broken: Callable[[int, int], bool], error: Callable[[], Exception] = ERRORS[0]) -> None:
        """Run out of memory in the forward pass where `broken` (number of the micro-batch, its rows) says so."""
        plain = Trainer.compute_loss

        def compute_loss(trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self.micro_batches += 1
            self.sizes.append(len(inputs["input_ids"]))
            if broken(self.micro_batches, self.sizes[-1]):
                raise error()
            return plain(trainer, model, inputs, *args, **kwargs)

        self._patch.setattr(Trainer, "compute_loss", compute_loss)

    def backward(self, broken: Callable[[int], bool], error: Callable[[], Exception] = ERRORS[0]) -> None:
        """Run out of memory in the backward pass, when gradients have been written already."""
        plain, count = Accelerator.backward, iter(range(1, 10**6))

        def backward(accelerator: Any, loss: Any, **kwargs: Any) -> None:
            plain(accelerator, loss, **kwargs)
            if broken(next(count)):
                raise error()

        self._patch.setattr(Accelerator, "backward", backward)

    def optimizer(self, broken: Callable[[int], bool]) -> None:
        """Run out of memory in the optimizer, when weights have been changed already."""
        plain, count = torch.optim.AdamW.step, iter(range(1, 10**6))

        def step(optimizer: Any, closure: Any = None) -> Any:
            result = plain(optimizer, closure)
            if broken(next(count)):
                raise ERRORS[0]()
            return result

        self._patch.setattr(torch.optim.AdamW, "step", step)

    def evaluation(self, most_tokens: int) -> list[int]:
        """Run out of memory where an evaluation takes more tokens at once; return the sizes that were tried."""
        plain, tried = solo.evaluate, []

        def evaluate(*args: Any, batch_tokens: int, **kwargs: Any) -> Any:
            tried.append(batch_tokens)
            if batch_tokens > most_tokens:
                raise ERRORS[0]()
            return plain(*args, batch_tokens=batch_tokens, **kwargs)

        self._patch.setattr(solo, "evaluate", evaluate)
        return tried

    def no_number_in(self, place: str, at: int) -> None:
        """Make the loss of a micro-batch, a gradient of it alone, or the `at`-th evaluation not a number."""
        count = iter(range(1, 10**6))
        plain_loss, plain_backward, plain_evaluate = Trainer.compute_loss, Accelerator.backward, solo.evaluate

        def compute_loss(*args: Any, **kwargs: Any) -> Any:
            loss = plain_loss(*args, **kwargs)
            return loss * math.nan if next(count) == at else loss

        def backward(accelerator: Any, loss: Any, **kwargs: Any) -> None:
            plain_backward(accelerator, loss, **kwargs)
            if next(count) == at:
                trained = next(p for m in accelerator._models for p in m.parameters() if p.grad is not None)
                trained.grad.view(-1)[0] = math.inf

        def evaluate(*args: Any, **kwargs: Any) -> Any:
            scores = plain_evaluate(*args, **kwargs)
            return scores.model_copy(update={"nll": [math.nan, *scores.nll[1:]]}) if next(count) == at else scores

        if place == "evaluation":
            self._patch.setattr(solo, "evaluate", evaluate)
        elif place == "gradient":
            self._patch.setattr(Accelerator, "backward", backward)
        else:
            self._patch.setattr(Trainer, "compute_loss", compute_loss)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)
