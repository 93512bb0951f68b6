"""The child's end of the pipe: messages, and heartbeats that stop when the work stops."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import BinaryIO

from hpo_service.wire.child.own_process import OwnProcess
from hpo_service.wire.framing import BadLine, read_lines, write_line
from hpo_service.wire.messages import TO_CHILD, FromChild, Heartbeat, Shutdown, ToChild

# Seconds between two looks at whether there was progress, and so between heartbeats of a busy child.
BEAT_SECONDS = 1.0
# Seconds that waiting for the supervisor counts as life: it answers at once, even while its database is away.
ANSWER_SECONDS = 60.0
# Seconds a child may need to save and leave once its supervisor is gone; then it ends itself.
ORPHAN_SECONDS = 60.0

log = logging.getLogger(__name__)


class Channel:
    """Messages to and from the supervisor, safe to use from several threads.

    A heartbeat is sent only if the trial was touched since the last one, or says that it is busy with something
    long: a trainer that hangs falls silent, and its supervisor can tell.
    """

    def __init__(
        self,
        reader: BinaryIO,
        writer: BinaryIO,
        *,
        clock: Callable[[], float] = time.monotonic,
        abandon: Callable[[], None] = lambda: os._exit(1),
        orphan_seconds: float = ORPHAN_SECONDS,
    ) -> None:
        self._reader, self._writer, self._clock = reader, writer, clock
        self._abandon, self._orphan_seconds = abandon, orphan_seconds
        self._inbox: SimpleQueue[ToChild] = SimpleQueue()
        self._writing = threading.Lock()
        self._process = OwnProcess()
        self._closed = threading.Event()
        self._touched = True
        self._busy: list[tuple[str, float]] = []
        self._activity = ""
        self._progress: dict[str, float] = {}
        self._busy_lock = threading.Lock()
        threading.Thread(target=self._read, name="supervisor-reader", daemon=True).start()

    @classmethod
    def over_stdio(cls) -> Channel:
        """Take standard input and output for messages alone, and start the heartbeat.

        Afterwards file descriptor 1 leads to standard error and 0 to nothing, so that no library's print, nor a
        grandchild's, can corrupt the protocol. SIGTERM asks for a clean end; SIGINT is left to the supervisor.
        """
        reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdout.flush()
        os.dup2(2, 1)
        channel = cls(reader, writer, abandon=_end_group)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # SimpleQueue.put is reentrant, which makes it fit for a signal handler.
        signal.signal(signal.SIGTERM, lambda *_: channel._inbox.put(Shutdown()))
        threading.Thread(target=channel._beat_forever, name="heartbeat", daemon=True).start()
        return channel

    def send(self, message: FromChild) -> None:
        """Write one message; when the supervisor is gone it is dropped (reading finds the end of the pipe).

        Raises:
            ForkedProcessError: this process is a copy of the one that opened the channel; nothing was written.
        """
        self._process.require()
        with self._writing:
            try:
                write_line(self._writer, message)
            except (BrokenPipeError, ValueError):
                log.warning("the supervisor is gone: %s was not delivered", message.type)

    def receive(self, timeout: float | None = None) -> ToChild | None:
        """Wait for the next message; None after `timeout` seconds, `Shutdown` once the supervisor is gone.

        A child without a trial may wait for ever; one that waits for an answer about its trial falls silent after a
        while, so that its supervisor can tell.
        """
        if timeout == 0:
            return self._next(block=False, timeout=None)
        with self.busy("waiting for the supervisor", ANSWER_SECONDS if self._progress else math.inf):
            return self._next(block=True, timeout=timeout)

    def touch(self, progress: Mapping[str, float] | None = None, activity: str = "") -> None:
        """Note that the work goes on; `progress` is the share done of the trials it names."""
        self._progress |= progress or {}
        self._activity = activity
        self._touched = True

    def forget(self, trial: str) -> None:
        """Say no more about a trial that has ended."""
        self._progress.pop(trial, None)
        self._activity = ""
        self._touched = True

    @contextmanager
    def busy(self, activity: str, limit: float = math.inf) -> Iterator[None]:
        """Keep the heartbeat going through one long call that cannot touch, for at most `limit` seconds.

        What a touch within the call says is shown instead of `activity`: it is nearer to the work.
        """
        call = (activity, self._clock() + limit)
        with self._busy_lock:
            self._busy.append(call)
            before, self._activity = self._activity, ""
        try:
            yield
        finally:
            with self._busy_lock:
                # not the last one: another thread may have begun a call of its own
                self._busy.remove(call)
                self._activity = before
            self._touched = True

    def beat(self) -> bool:
        """Send one heartbeat if there is a sign of life since the last; tell whether it was sent."""
        with self._busy_lock:
            phase, until = self._busy[-1] if self._busy else ("", -math.inf)
        alive = self._touched or self._clock() < until
        self._touched = False
        if alive:
            self.send(Heartbeat(progress=dict(self._progress), activity=self._activity or phase))
        return alive

    def close(self) -> None:
        """End the heartbeat and close the writing side."""
        self._closed.set()
        with self._writing:
            try:
                self._writer.close()
            except BrokenPipeError:
                log.debug("the supervisor closed its end first")

    def _beat_forever(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            self.beat()

    def _next(self, block: bool, timeout: float | None) -> ToChild | None:
        try:
            return self._inbox.get(block=block, timeout=timeout)
        except Empty:
            return None

    def _read(self) -> None:
        with self._reader:
            for message in read_lines(self._reader, TO_CHILD):
                if isinstance(message, BadLine):
                    log.error("not a message from the supervisor: %r (%s)", message.beginning, message.problem)
                else:
                    self._inbox.put(message)
        self._inbox.put(Shutdown())
        # Work that does not look at its messages must not outlive its supervisor and keep the device.
        if not self._closed.wait(self._orphan_seconds):
            self._abandon()


def _end_group() -> None:
    """End this process at once, and what the work has started, where the group is its own."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
