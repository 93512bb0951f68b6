"""The processes that train one trial together, one for each GPU: how they meet, and how they fail together.

Rank 0 alone speaks to the supervisor. All ranks exchange the same number of messages in the same order, whatever
happens: a rank that fails sends that in place of its next message, where the others learn of it and give up too.
Gradients are added only right after an exchange, so that no rank waits in an addition for one that will not come.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist

from hpo_service.domain.memory.fit import LEAST_OVER_GB
from hpo_service.errors import DoesNotFitError, TrialError
from hpo_service.training.device.faults import is_fatal, is_out_of_memory
from hpo_service.wire.child import Stopped, is_retryable, reason_of
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

Message = dict[str, Any]
FailureKind = Literal["stopped", "memory", "fit", "error"]


@dataclass(frozen=True)
class Failure:
    """What a rank that failed sends in place of its next message; see `PeerError` for `retryable` and `fatal`."""

    kind: FailureKind
    reason: str
    retryable: bool
    fatal: bool

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What the others need to know of an exception."""
        kind: FailureKind = "error"
        if isinstance(error, Stopped):
            kind = "stopped"
        elif isinstance(error, DoesNotFitError):
            kind = "fit"
        elif is_out_of_memory(error):
            kind = "memory"
        return cls(kind, reason_of(error), is_retryable(error), is_fatal(error))

    def error(self, rank: int, size: int) -> BaseException:
        """The exception that this failure of a rank is on the other ranks."""
        reason = f"rank {rank} of {size}: {self.reason}"
        if self.kind == "stopped":
            return Stopped()
        if self.kind == "memory":
            return torch.OutOfMemoryError(reason)
        if self.kind == "fit":
            return DoesNotFitError(reason, over_gb=LEAST_OVER_GB, ran_out=True)
        return PeerError(reason, retryable=self.retryable, fatal=self.fatal)


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
    _in_collective: bool = False

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

    def announce(self, admit: Admit | None) -> None:
        """As rank 0, tell the others which trial comes next; None ends them."""
        if self.size > 1:
            self._gather(admit, self._idle)

    def next_trial(self) -> Admit | None:
        """As any other rank, wait for the next trial; None once there is nothing more to do."""
        admit: Admit | None = self._gather(None, self._idle)[0]
        return admit

    # --- within a trial ----------------------------------------------------------------------------------------

    def exchange(self, message: Mapping[str, Any]) -> list[Message]:
        """Send a message of plain values to all ranks; return every rank's, in their order, once all have sent one.

        Raises:
            Stopped: rank 0 was told to stop.
            torch.OutOfMemoryError: a rank ran out of memory.
            DoesNotFitError: a rank has too little memory for a single row.
            PeerError: a rank failed otherwise, or is gone.
        """
        received = self._gather(dict(message))
        failure = self._first_failure(received)
        if failure is not None:
            self._heard = failure
            raise failure
        return received

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Send this rank's failure to the others in place of its next message; of several the lowest rank's counts.

        Raises:
            as `exchange`, where a lower rank failed too.
        """
        try:
            yield
        except BaseException as error:
            if self.size == 1 or error is self._heard:
                raise
            if self._heard is not None and self._was_heard(error):
                raise self._heard from error
            if self._in_collective:
                raise PeerError(f"rank {self.rank} of {self.size}: {reason_of(error)}", fatal=True) from error
            received = self._gather(Failure.of(error))
            if not any(isinstance(each, Failure) for each in received[: self.rank]):
                raise
            self._heard = self._first_failure(received)
            assert self._heard is not None
            raise self._heard from error

    def agree(self, **facts: str) -> None:
        """Make sure that all ranks are about to train the same.

        Raises:
            PeerError: they are not.
        """
        if self.size == 1:
            return
        received = self.exchange(facts)
        for name in facts:
            found = [each[name] for each in received]
            if len(set(found)) > 1:
                self._heard = PeerError(f"the processes of the trial have unlike {name}: {', '.join(found)}")
                raise self._heard

    def minimum(self, number: float | None) -> float | None:
        """The smallest number that any rank has, or None where one has none."""
        if self.size == 1:
            return number
        found = [each["number"] for each in self.exchange({"number": number})]
        return None if None in found else min(found)

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every rank the sum of all ranks' gradients; to be called right after an exchange."""
        gradients = [each.grad for each in parameters if each.grad is not None]
        with self.in_collective():
            for bucket in _buckets(gradients):
                flat = torch.cat([each.reshape(-1) for each in bucket])
                with self._connected():
                    dist.all_reduce(flat, group=self.tensors)
                for gradient, total in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
                    gradient.copy_(total.view_as(gradient))

    @contextmanager
    def in_collective(self) -> Iterator[None]:
        """Work in which the others wait for this rank's tensors: an error cannot be sent, and ends the processes."""
        self._in_collective = True
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise self._lost() from error
            raise
        self._in_collective = False

    def _gather(self, message: object, group: Any = None) -> list[Any]:
        """What every rank sends, in their order."""
        received: list[Any] = [None] * self.size
        with self._connected():
            dist.all_gather_object(received, message, group=group)
        return received

    def _first_failure(self, received: list[Any]) -> BaseException | None:
        failures = (each.error(rank, self.size) for rank, each in enumerate(received) if isinstance(each, Failure))
        return next(failures, None)

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
