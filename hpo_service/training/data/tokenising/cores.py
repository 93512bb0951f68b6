"""Batches of rows on all cores: in this process while they are few, then in one process for each core."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from hpo_service.training.data.tokenising.work import Work

# Rows of a batch; and batches that this process works on before it asks others, which take seconds to start.
BATCH, ALONE = 1000, 20
# Batches that wait for each process, so that none idles and few are held.
AHEAD = 2
# Read when the tokenizer is first used: its own threads would fight for the cores that the processes have.
ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false"}

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


class Cores:
    """Does work on batches, in their order, on as many cores as this process may use.

    Other processes come from a fork server, which has imported the libraries once: forking this one would take the
    device and the locks of other threads along. They end with this process, however it ends. Where they cannot be
    had (a tokenizer that cannot be sent, for instance) the work is done here.
    """

    def __init__(self, work: Work, cores: int | None = None) -> None:
        self.work = work
        self.cores = cores or usable_cores()
        self._pool: ProcessPoolExecutor | None = None
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def map(self, do: Callable[[Work, list[Item]], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield what `do`, a method of `Work`, makes of batches of these items.

        Raises:
            DataError: as `do` does, for the first batch of which it is true.
        """
        batches = _batches(iter(items))
        while self.cores == 1 or self._done < ALONE:
            batch = next(batches, None)
            if batch is None:
                return
            yield do(self.work, batch)
            self._done += 1
        yield from self._spread(do, batches)

    def _spread(self, do: Callable[[Work, list[Item]], Result], batches: Iterator[list[Item]]) -> Iterator[Result]:
        waiting: deque[tuple[list[Item], Future[Result]]] = deque()
        for batch in batches:
            pool = self._workers()
            if pool is None:
                yield do(self.work, batch)
                continue
            waiting.append((batch, _asked(pool, do, batch)))
            if len(waiting) > AHEAD * self.cores:
                yield self._answer(do, *waiting.popleft())
        while waiting:
            yield self._answer(do, *waiting.popleft())

    def _answer(self, do: Callable[[Work, list[Item]], Result], batch: list[Item], asked: Future[Result]) -> Result:
        try:
            return asked.result()
        except BrokenProcessPool as error:
            if self.cores > 1:
                log.warning("rows are tokenised on one core, since the processes of the others ended: %s", error)
            self.cores = 1
            return do(self.work, batch)

    def _workers(self) -> ProcessPoolExecutor | None:
        if self._pool is None and self.cores > 1:
            try:
                pickled = pickle.dumps(self.work)
                context = multiprocessing.get_context("forkserver")
            # tokenizers that come with models raise what they like; not every system has a fork server
            except Exception as error:
                log.warning("rows are tokenised on one core, since their tokenizer cannot be sent: %s", error)
                self.cores = 1
                return None
            context.set_forkserver_preload([__name__])
            self._pool = ProcessPoolExecutor(self.cores, context, _begin, (pickled,))
        return self._pool if self.cores > 1 else None


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(islice(items, BATCH)):
        yield batch


def _asked(pool: ProcessPoolExecutor, do: Callable[[Work, list[Item]], Result], batch: list[Item]) -> Future[Result]:
    try:
        return pool.submit(_do, do, batch)
    except BrokenProcessPool as error:  # told when its turn comes, so that the order stays
        refused: Future[Result] = Future()
        refused.set_exception(error)
        return refused


_work: Work | None = None


def _begin(pickled: bytes) -> None:
    """Make a process ready: it ends when the one that it works for does, and leaves interrupts to that."""
    global _work  # noqa: PLW0603 - what a pool's processes are begun with can stand nowhere else
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(ENVIRONMENT)
    Thread(target=_end_with_parent, daemon=True).start()
    _work = pickle.loads(pickled)  # noqa: S301 - sent by the process that started this one


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _do(do: Callable[[Work, Any], Result], batch: Sequence[Any]) -> Result:
    assert _work is not None
    return do(_work, batch)
