"""The processes that train one trial together, one for each GPU: how they meet, and how they fail together.

Rank 0 alone speaks to the supervisor. All ranks say the same number of words in the same order, whatever happens:
one that fails says so at its next word, where the others hear it and give up too. Gradients are added only right
after a word that all have heard, so that nobody waits in an addition for one who will not come.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from hpo_service.domain.memory.fit import LEAST_OVER_GB
from hpo_service.errors import DoesNotFitError, TrialError
from hpo_service.training.device.faults import is_fatal, is_out_of_memory
from hpo_service.wire.child import Stopped, may_go_better, reason_of
from hpo_service.wire.messages import Admit

# Seconds that ranks wait for each other within a trial; a hang is noticed earlier, by the supervisor's hang_seconds.
MEETING_SECONDS = 3600.0
# Between trials there is nothing to hurry for, and a rank that ends is noticed by its connection.
IDLE_SECONDS = 365 * 86400.0
# Elements added up at once: 64 MiB in float32, so that the memory this takes is small.
BUCKET = 2**24
# What torch's launcher tells each process. Accelerate must not see it: it would wrap the model in its own way, whose
# additions happen within the backward pass, where a rank that runs out of memory leaves the others waiting.
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "GROUP_WORLD_SIZE")

Word = dict[str, Any]


class PeerError(TrialError):
    """Another process of the same trial failed, or is gone.

    Attributes:
        retryable: whether another attempt may do better.
        fatal: whether the processes must be replaced.
    """

    def __init__(self, message: str, *, retryable: bool = True, fatal: bool = False) -> None:
        super().__init__(message)
        self.retryable, self.fatal = retryable, fatal


@dataclass
class ProcessGroup:
    """This process's place among those of its trial; a trial on one GPU has one rank, to whom all of this is nothing.

    Attributes:
        rank: counted from 0, which leads.
        size: number of ranks.
        tensors: the process group in which tensors on the ranks' devices are exchanged.
    """

    rank: int = 0
    size: int = 1
    tensors: Any = None
    _idle: Any = None
    _heard: BaseException | None = None
    _bound: bool = False

    @classmethod
    def join(cls) -> ProcessGroup:
        """Meet the other processes that torch's launcher started on this machine; alone where it started none."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if sys.platform == "linux":
            # the ranks of a trial live on one machine: nobody else needs to reach them
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        dist.init_process_group("gloo", timeout=timedelta(seconds=MEETING_SECONDS))
        rank = dist.get_rank()
        idle = dist.new_group(backend="gloo", timeout=timedelta(seconds=IDLE_SECONDS))
        tensors = dist.new_group(backend="nccl") if torch.cuda.is_available() else dist.group.WORLD
        for name in LAUNCHED:
            os.environ.pop(name, None)
        return cls(rank, size, tensors, idle)

    @property
    def leads(self) -> bool:
        """Whether this process speaks to the supervisor."""
        return self.rank == 0

    # --- between trials ----------------------------------------------------------------------------------------

    def call(self, admit: Admit | None) -> None:
        """As rank 0, tell the others which trial comes next; None sends them home."""
        if self.size > 1:
            self._exchange(admit, self._idle)

    def answer(self) -> Admit | None:
        """As any other rank, wait for the next trial; None once there is nothing more to do."""
        order: Admit | None = self._exchange(None, self._idle)[0]
        return order

    # --- within a trial ----------------------------------------------------------------------------------------

    def meet(self, word: Mapping[str, Any]) -> list[Word]:
        """Say a word, of plain values, and hear what every rank says, in their order; numbers arrive exactly.

        Raises:
            Stopped: rank 0 was told to stop.
            torch.OutOfMemoryError: a rank ran out of memory.
            DoesNotFitError: a rank has too little memory for a single row.
            PeerError: a rank failed otherwise, or is gone.
        """
        words = self._exchange(dict(word))
        failed = next((rank for rank, each in enumerate(words) if "failed" in each), None)
        if failed is not None:
            self._heard = _failure(failed, self.size, words[failed])
            raise self._heard
        return words

    @contextmanager
    def together(self) -> Iterator[None]:
        """Carry this rank's failure to the others, who hear it at their next word; of several the lowest rank's counts.

        Raises:
            as `meet`, where a lower rank failed too.
        """
        try:
            yield
        except BaseException as error:
            if self.size == 1 or error is self._heard:
                raise
            if self._heard is not None and self._was_heard(error):
                raise self._heard from error
            if self._bound:
                raise PeerError(f"rank {self.rank} of {self.size}: {reason_of(error)}", fatal=True) from error
            words = self._exchange(_confession(error))
            first = next(rank for rank, each in enumerate(words) if "failed" in each)
            if first == self.rank:
                raise
            self._heard = _failure(first, self.size, words[first])
            raise self._heard from error

    def agree(self, **facts: str) -> None:
        """Make sure that all ranks are about to train the same.

        Raises:
            PeerError: they are not.
        """
        if self.size == 1:
            return
        words = self.meet(facts)
        for name in facts:
            found = [word[name] for word in words]
            if len(set(found)) > 1:
                self._heard = PeerError(f"the processes of the trial have unlike {name}: {', '.join(found)}")
                raise self._heard

    def least(self, number: float | None) -> float | None:
        """The smallest number that any rank has, or None where one has none."""
        if self.size == 1:
            return number
        found = [word["number"] for word in self.meet({"number": number})]
        return None if None in found else min(found)

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every rank the sum of all ranks' gradients; a word must have been heard just before."""
        gradients = [each.grad for each in parameters if each.grad is not None]
        with self.bound():
            for bucket in _buckets(gradients):
                flat = torch.cat([each.reshape(-1) for each in bucket])
                with self._connected():
                    dist.all_reduce(flat, group=self.tensors)
                for gradient, total in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
                    gradient.copy_(total.view_as(gradient))

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Work in which the others wait for this rank's tensors: an error cannot be told, and ends the processes."""
        self._bound = True
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise self._lost() from error
            raise
        self._bound = False

    def _exchange(self, said: Any, group: Any = None) -> list[Any]:
        """What every rank has to say, in their order; pickled, which only these processes of one trial can send."""
        heard = [None] * self.size
        with self._connected():
            dist.all_gather_object(heard, said, group=group)
        return heard

    @contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise self._lost() from error

    def _lost(self) -> PeerError:
        reason = f"one of the {self.size} processes of the trial ended without a word (killed, or out of host memory?)"
        self._heard = lost = PeerError(f"{reason}; see the log of the trainer", fatal=True)
        return lost

    def _was_heard(self, error: BaseException | None) -> bool:
        while error is not None:
            if error is self._heard:
                return True
            error = error.__cause__ or error.__context__
        return False


def _confession(error: BaseException) -> Word:
    kind = "stopped" if isinstance(error, Stopped) else "error"
    if is_out_of_memory(error):
        kind = "memory"
    if isinstance(error, DoesNotFitError):
        kind = "fit"
    return {
        "failed": kind,
        "reason": reason_of(error),
        "retryable": may_go_better(error),
        "fatal": is_fatal(error),
    }


def _failure(rank: int, size: int, word: Word) -> BaseException:
    reason = f"rank {rank} of {size}: {word['reason']}"
    if word["failed"] == "stopped":
        return Stopped()
    if word["failed"] == "memory":
        return torch.OutOfMemoryError(reason)
    if word["failed"] == "fit":
        return DoesNotFitError(reason, over_gb=LEAST_OVER_GB, ran_out=True)
    return PeerError(reason, retryable=word["retryable"], fatal=word["fatal"])


def _buckets(tensors: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Neighbours of one type together, up to `BUCKET` elements (or one tensor)."""
    bucket: list[torch.Tensor] = []
    for tensor in tensors:
        full = sum(each.numel() for each in bucket) + tensor.numel() > BUCKET
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
