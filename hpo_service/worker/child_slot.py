"""Keeping the one child of a worker: started when there is work for it, replaced by another kind, judged and ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hpo_service.wire.messages import ToChild
from hpo_service.worker.child import Child

StartChild = Callable[[tuple[str, ...], Path, Mapping[str, str], Callable[[], float]], Child]
"""Starts a process from command, log, variables and clock."""


class ChildSlot:
    """Holds at most one child.

    Attributes:
        log: file that every child's standard error is appended to.
        child: the one that runs, if any.
        activity: what it was busy with when it was last heard.
        slots: how many trials it says it serves at once; 1 until it says more.
        ready: on which device it has proven that it can train; None until it has.
        swept: numbers of the processes that ended with earlier children.
    """

    def __init__(
        self,
        log: Path,
        environment: Mapping[str, str],
        clock: Callable[[], float],
        start_child: StartChild = Child,
    ) -> None:
        self.log = log
        self.child: Child | None = None
        self.activity = ""
        self.slots = 1
        self.ready: str | None = None
        self.swept: set[int] = set()
        self._environment, self._clock, self._start_child = environment, clock, start_child
        self._suspect = False

    def child_for(self, command: tuple[str, ...], *, alone: bool) -> Child:
        """Return the child that runs this command, started if need be.

        Args:
            command: program and arguments.
            alone: the child has nothing else to do, so that it may be replaced.

        Raises:
            OSError: it cannot be started.
        """
        if self.child is not None and alone and (self.child.command != command or self.child.ended):
            self.kill()
        if self.child is None:
            self.child = self._start_child(command, self.log, self._environment, self._clock)
        if alone:
            self.child.restart_silence()
        return self.child

    def doing(self, trials: int) -> str:
        """Say for people what goes on where so many trials are held."""
        return self.activity or ("training" if trials else "waiting for trials")

    def send(self, message: ToChild) -> None:
        """Tell the child something, if there is one."""
        if self.child is not None:
            self.child.send(message)

    def hangs(self, limit: float) -> bool:
        """Whether the child was silent for longer than `limit` seconds, now and when this was last asked.

        After this process itself was frozen, what the child said meanwhile is still to be read in between.
        """
        silent, suspect = self.child is not None and self.child.silence > limit, self._suspect
        self._suspect = silent
        return silent and suspect

    def kill(self) -> None:
        """End the child and everything it started, at once."""
        self._suspect, self.activity, self.slots, self.ready = False, "", 1, None
        if self.child is not None:
            self.child.kill()
            self.swept |= self.child.swept
            self.child = None

    def close(self) -> None:
        """Ask the child to leave, and end it when it does not."""
        if self.child is not None:
            self.child.close()
            self.child = None
