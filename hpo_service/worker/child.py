"""The supervisor's end of a child process: start it, exchange messages with it, notice its silence, end it."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import psutil

from hpo_service.errors import ChildError
from hpo_service.settings import SECRETS
from hpo_service.wire import orphans
from hpo_service.wire.exit_status import how_it_ended
from hpo_service.wire.framing import BadLine, read_lines, write_line
from hpo_service.wire.log_file import cut
from hpo_service.wire.messages import FROM_CHILD, FromChild, Shutdown, ToChild

SHUTDOWN_SECONDS = 10.0
"""How long a child may take to exit after `shutdown` before it is killed."""
LOG_SECONDS = 1.0
"""Pause between two looks at how long the child's log has become."""
TOUCHED_EVERY = 3600
"""Looks after which the log is touched: one that is not touched for hours is that of no living worker."""
DRAIN_SECONDS = 1.0
"""How long the last lines of a child that is gone may take to arrive."""

SWEEPS = 5
"""How often a session is looked through for processes that were started while the others were being killed."""

TRAINER = (sys.executable, "-m", "hpo_service.training")
OBJECTIVE = (sys.executable, "-m", "hpo_service.objective")

LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1")
"""Starts the processes of one trial on this machine, and ends all when one ends in an error; speaks to nobody else."""


def adopt_orphans() -> None:
    """Have this process, a worker's alone, find what its children started even where they are gone before it."""
    orphans.adopt_orphans()


def training_command(gpus: int) -> tuple[str, ...]:
    """The command of a trainer: one process, or with several GPUs one for each, of which the first one speaks."""
    if gpus == 1:
        return TRAINER
    return (*LAUNCHER, "--nproc-per-node", str(gpus), *TRAINER[1:])


class Child:
    """One child process; messages are read by a thread into a queue, so that a silent child blocks nobody.

    The child gets a session of its own: a Ctrl-C at the terminal reaches the supervisor alone, which decides; and
    whatever the child started is found by that session and ended with it, even after the child itself is gone.

    Attributes:
        swept: numbers of the processes that were ended with it.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        log: Path,
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the process.

        Args:
            command: program and arguments.
            log: file its standard error is appended to.
            environment: variables set on top of this process's own, of which the database's secrets are kept back.
            clock: seconds, monotonic.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self.log = log
        self.command = command
        self._last_heard = clock()
        self.swept: set[int] = set()
        self._messages: queue.Queue[FromChild | ChildError] = queue.Queue()
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={name: value for name, value in {**os.environ, **environment}.items() if name not in SECRETS},
                start_new_session=True,
            )
        self._born = _born(self._process.pid)
        self._reader = threading.Thread(target=self._read, args=(self._pipe(self._process.stdout),), daemon=True)
        self._reader.start()
        self._gone = threading.Event()
        self._log_keeper = threading.Thread(target=self._keep_log_short, name="log", daemon=True)
        self._log_keeper.start()

    @staticmethod
    def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
        if stream is None:
            raise ChildError("the child process was started without its pipes")
        return stream

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for message in read_lines(stream, FROM_CHILD):
                if isinstance(message, BadLine):
                    problem = f"the child wrote a line that is no message: {message.beginning!r}"
                    self._messages.put(ChildError(f"{problem}; its log is {self.log}"))
                else:
                    self._messages.put(message)
        self._messages.put(self._end(self._process.wait()))

    def _keep_log_short(self) -> None:
        """Cut the log while the child lives, whoever writes to it: it, a command, or a print in a user's code."""
        for look in itertools.count(1):
            if self._gone.wait(LOG_SECONDS):
                break
            cut(self.log)
            if look % TOUCHED_EVERY == 0:
                self.log.touch()
        cut(self.log)

    def _end(self, code: int) -> ChildError:
        hint = " (out of host memory?)" if code == -signal.SIGKILL else ""
        return ChildError(f"the child process {how_it_ended(code)}{hint}; its log is {self.log}", status=code)

    @property
    def pid(self) -> int:
        """Process number of the child, and of its session."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    @property
    def silence(self) -> float:
        """Seconds since the child was last heard, or was given something to do."""
        return self._clock() - self._last_heard

    def restart_silence(self) -> None:
        """Count the child's silence from now on: it is given work after a time without any."""
        self._last_heard = self._clock()

    def send(self, message: ToChild) -> None:
        """Write one message; a child that is gone is noticed by `receive`, not here."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            write_line(self._pipe(self._process.stdin), message)

    def receive(self, timeout: float) -> FromChild | None:
        """Return the next message, or None after `timeout` seconds.

        Raises:
            ChildError: the child ended, or wrote something that is not a message.
        """
        try:
            message = self._messages.get(timeout=max(0.0, timeout))
        except queue.Empty:
            if not self.ended:
                return None
            message = self._last_message()
        self._last_heard = self._clock()
        if isinstance(message, ChildError):
            raise message
        return message

    def _last_message(self) -> FromChild | ChildError:
        """Return what a child that is gone still said, though something it started may hold its pipe open."""
        self._end_session()
        self._reader.join(DRAIN_SECONDS)
        try:
            return self._messages.get_nowait()
        except queue.Empty:
            return self._end(self._process.wait())

    def kill(self) -> None:
        """End the child and everything it started, at once."""
        self._end_session()
        self._process.wait()
        self._gone.set()
        self._log_keeper.join(DRAIN_SECONDS)
        self._close_input()

    def close(self, patience: float = SHUTDOWN_SECONDS) -> None:
        """Ask the child to exit; kill it, and whatever it leaves behind, when it has not after `patience` seconds."""
        self.send(Shutdown())
        self._close_input()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self.kill()

    def _close_input(self) -> None:
        with contextlib.suppress(OSError):
            self._pipe(self._process.stdin).close()

    def _end_session(self) -> None:
        """Kill every process of the child's session; again, until none is left that was started meanwhile.

        So too the sessions that its descendants opened: a launcher gives one to each process of a trial, and what a
        trial has started may hide in one.
        """
        sessions = {self.pid}
        for _ in range(SWEEPS):
            sessions |= _sessions_under(self.pid)
            if orphans.adopting():  # whoever lost its parent, and left the session before, is ours now
                sessions |= _sessions_under(os.getpid(), since=self._born)
            members = [pid for pid in psutil.pids() if _session_of(pid) in sessions]
            for pid in members:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self.swept.update(members)
            orphans.reap(pid for pid in members if pid != self.pid)
            if not [pid for pid in members if pid != self.pid]:
                return


def _sessions_under(pid: int, since: float = 0.0) -> set[int]:
    """The sessions of the descendants of a process that were started since then."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return set()
    found = {_session_of(child.pid) for child in children if _born(child.pid) >= since}
    # never our own, whatever a process number that came back says
    return {session for session in found if session is not None} - {os.getsid(0)}


def _born(pid: int) -> float:
    """When a process was started; 0 for one that is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
