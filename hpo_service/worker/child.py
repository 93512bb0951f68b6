"""The supervisor's end of a child process: start it, speak JSON lines with it, notice its silence, end it."""

from __future__ import annotations

import contextlib
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

from pydantic import ValidationError

from hpo_service.domain.messages import FROM_CHILD, Admit, Continue, Failed, Finished, Heartbeat, Reported
from hpo_service.domain.messages import Shutdown, Started, Stop
from hpo_service.errors import ChildError

SHUTDOWN_SECONDS = 10.0
"""How long a child may take to exit after `shutdown` before it is killed."""

TRAINER = (sys.executable, "-m", "hpo_service.training")
OBJECTIVE = (sys.executable, "-m", "hpo_service.objective")

FromChildMessage = Started | Reported | Finished | Failed | Heartbeat


class Child:
    """One child process; messages are read by a thread into a queue, so that a silent child blocks nobody.

    The child gets a session of its own: a Ctrl-C at the terminal reaches the supervisor alone, which decides.
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
            environment: variables set on top of this process's own.
            clock: seconds, monotonic.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self.log = log
        self.command = command
        self.last_heard = clock()
        self._messages: queue.Queue[FromChildMessage | ChildError] = queue.Queue()
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        threading.Thread(target=self._read, args=(self._pipe(self._process.stdout),), daemon=True).start()

    @staticmethod
    def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
        if stream is None:
            raise ChildError("the child process was started without its pipes")
        return stream

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                self._messages.put(FROM_CHILD.validate_json(line))
            except ValidationError:
                self._messages.put(ChildError(f"the child wrote a line that is no message: {line[:200]!r}"))
        code = self._process.wait()
        self._messages.put(ChildError(f"the child process ended ({_exit_words(code)}); its log is {self.log}"))

    @property
    def pid(self) -> int:
        """Process number of the child."""
        return self._process.pid

    @property
    def silence(self) -> float:
        """Seconds since the child was last heard."""
        return self._clock() - self.last_heard

    def send(self, message: Admit | Continue | Stop | Shutdown) -> None:
        """Write one message; a child that is gone is noticed by `receive`, not here."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            pipe = self._pipe(self._process.stdin)
            pipe.write(message.model_dump_json().encode() + b"\n")
            pipe.flush()

    def receive(self, timeout: float) -> FromChildMessage | None:
        """Return the next message, or None after `timeout` seconds.

        Raises:
            ChildError: the child ended, or wrote something that is not a message.
        """
        try:
            message = self._messages.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None
        self.last_heard = self._clock()
        if isinstance(message, ChildError):
            raise message
        return message

    def kill(self) -> None:
        """End the child and everything it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Ask the child to exit; kill it when it does not."""
        self.send(Shutdown())
        with contextlib.suppress(BrokenPipeError, OSError):
            self._pipe(self._process.stdin).close()
        try:
            self._process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


def _exit_words(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ": out of host memory?" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"
