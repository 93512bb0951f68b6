"""What each rank does of a trial: its rows of every batch, its rows of every evaluation, and what it is told to do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from hpo_service.domain.trial.scores import Scores
from hpo_service.training.data.tokens import IGNORED, TokenRow
from hpo_service.training.distributed.process_group import ProcessGroup
from hpo_service.training.run.job import Job
from hpo_service.training.run.optimizers import OptimizerTrainer

# Beside the tensors of a batch: supervised tokens of all ranks' rows, each times its row's weight, and tokens of the
# rows of the other ranks.
SUPERVISED, ELSEWHERE = "supervised_everywhere", "tokens_elsewhere"
# Orders of rank 0; these are names of rows that are scored.
PARTS = ("validation", "watched", "test")
GO_ON, END, DONE = "go on", "end", "done"

Batch = dict[str, Any]
Score = Callable[[Sequence[TokenRow]], Scores]


@dataclass(frozen=True)
class RankCollator:
    """Makes a rank's batch out of the rows of all: every n-th row, so that neighbours in length are shared out.

    All ranks draw the same rows in the same order, which makes a step's rows those of a single process. Where there
    are fewer rows than ranks, a row with nothing to learn keeps a rank in step.
    """

    ranks: ProcessGroup
    collate: Callable[[Sequence[TokenRow]], Batch]

    def __call__(self, rows: Sequence[TokenRow]) -> Batch:
        """Make the batch; the rows are those of all ranks."""
        mine = list(rows[self.ranks.rank :: self.ranks.size])
        batch = self.collate(mine or [replace(rows[0], labels=np.full_like(rows[0].labels, IGNORED))])
        everywhere = sum(len(row.ids) for row in rows)
        return {
            **batch,
            SUPERVISED: sum(row.supervised * row.weight for row in rows),
            ELSEWHERE: everywhere - int(batch["attention_mask"].sum()),
        }


class DataParallelTrainer(OptimizerTrainer):
    """The Trainer of one rank: its loss and gradients are of its own rows until, once per optimizer step, all add up.

    With one rank it is the Trainer as it is.

    Attributes:
        ranks: the processes of the trial.
        sharded: every forward pass gathers weights from all ranks.
    """

    ranks: ProcessGroup = ProcessGroup()
    sharded: bool = False
    _local_loss: torch.Tensor

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor | int | None]:
        """The batches of one optimizer step, with what all ranks' supervised tokens in it weigh."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.ranks.size == 1:
            return batches, items
        supervised = sum(batch.pop(SUPERVISED) for batch in batches)
        self.state.num_input_tokens_seen += sum(batch.pop(ELSEWHERE) for batch in batches)
        self._local_loss = torch.zeros((), dtype=torch.float64, device=device)
        return batches, torch.tensor(supervised, device=device)

    def training_step(self, model: torch.nn.Module, *given: Any, **named: Any) -> torch.Tensor:
        """One forward and backward pass; after the last of a step, loss and gradients are those of all ranks' rows."""
        if self.ranks.size == 1:
            return super().training_step(model, *given, **named)
        if self.sharded:
            # a rank that has failed must be known before weights are gathered
            self.ranks.exchange({})
        with self.ranks.in_collective() if self.sharded else nullcontext():
            loss = super().training_step(model, *given, **named)
        self._local_loss += loss
        if not self.accelerator.sync_gradients:
            return loss
        received = self.ranks.exchange({"loss": float(self._local_loss)})
        self.ranks.add_gradients(model.parameters())
        # the Trainer adds this to what it has of the step's earlier passes
        return torch.as_tensor(sum(each["loss"] for each in received) - self._tr_loss)


class LeaderCallback(TrainerCallback):
    """As rank 0: after every optimizer step, once all else has been done, tells the others how it goes on."""

    def __init__(self, ranks: ProcessGroup, seed: int) -> None:
        self._ranks, self._seed = ranks, seed

    def on_step_begin(self, *given: Any, **_: Any) -> None:
        """Draw from a stream of this rank and step, so that masks differ by rank and a resumed run draws the same."""
        _, state, _ = given
        torch.manual_seed(rank_seed(self._seed, state.global_step, self._ranks.rank))

    def on_log(self, *given: Any, **live: Any) -> None:
        """After an optimizer step: the Trainer logs each one."""
        _, state, control = given
        if "loss" in live["logs"]:
            state.log_history.clear()
            control.should_training_stop = self._should_stop(control.should_training_stop)

    def _should_stop(self, ends: bool) -> bool:
        self._ranks.exchange({"do": END if ends else GO_ON})
        return ends


class FollowerCallback(LeaderCallback):
    """As any other rank: after every optimizer step does what rank 0 asks for."""

    def __init__(self, ranks: ProcessGroup, seed: int, follow: Callable[[], str]) -> None:
        super().__init__(ranks, seed)
        self._follow = follow

    def _should_stop(self, ends: bool) -> bool:
        return self._follow() == END or ends


@dataclass(frozen=True)
class DistributedScoring:
    """Scores rows with all ranks together: rank 0 calls it, the others `follow`."""

    ranks: ProcessGroup
    job: Job
    score: Score

    def __call__(self, rows: Sequence[TokenRow]) -> Scores:
        """As rank 0, have the rows of one part scored by all."""
        if self.ranks.size == 1:
            return self.score(rows)
        part = next(name for name in PARTS if self.job.part(name) is rows)
        self.ranks.exchange({"do": part})
        return self._share(rows)

    def follow(self) -> str:
        """As any other rank, score what rank 0 asks for until it asks for something else, which is returned."""
        while (order := str(self.ranks.exchange({})[0]["do"])) in PARTS:
            self._share(self.job.part(order))
        return order

    def _share(self, rows: Sequence[TokenRow]) -> Scores:
        """Every rank scores as many rows, for they may have to gather weights together; what is too much is dropped."""
        size = self.ranks.size
        each = -(-len(rows) // size)
        mine = [rows[min(self.ranks.rank + size * number, len(rows) - 1)] for number in range(each)]
        nll = [0.0] * (size * each)
        for rank, received in enumerate(self.ranks.exchange({"nll": self.score(mine).nll})):
            nll[rank::size] = received["nll"]
        del nll[len(rows) :]
        return Scores(nll=nll, tokens=[row.supervised for row in rows])


def rank_seed(seed: int, step: int, rank: int) -> int:
    """A seed for one rank's draws in one optimizer step, unlike every other's."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
