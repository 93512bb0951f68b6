"""A device that a process of an earlier trial still holds: what were measured on it is not the next trial's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import psutil

HOLD_SECONDS = 75.0
"""Longest wait for a device. A child whose supervisor is gone ends itself within a minute; longer may hang for ever."""

OUR_CHILDREN = ("hpo_service.training", "hpo_service.objective")
"""Modules that run as children of a worker, as they stand on command lines."""

log = logging.getLogger(__name__)


class DeviceHold:
    """Tells whether the device is still held by what this worker, or one before it, has left behind."""

    def __init__(self, users: Callable[[], Collection[int]], clock: Callable[[], float]) -> None:
        """Look at a device.

        Args:
            users: numbers of the processes that hold memory of it.
            clock: monotonic seconds.
        """
        self._users, self._clock = users, clock
        self._since: float | None = None

    def held(self, killed: Collection[int]) -> bool:
        """Whether to wait for the device; never for longer than `HOLD_SECONDS`, and never for strangers.

        Args:
            killed: numbers of processes that ended with earlier children of this worker.
        """
        left = sorted(pid for pid in self._users() if pid in killed or is_orphan(pid))
        if not left:
            self._since = None
            return False
        if self._since is None:
            self._since = self._clock()
            log.info("the device is still held by an earlier trial (process %s): waiting for it", left[0])
        if self._clock() - self._since <= HOLD_SECONDS:
            return True
        log.warning("process %s of an earlier trial holds the device and does not end: going on beside it", left[0])
        return False


def is_orphan(pid: int) -> bool:
    """Whether the process is, or was started by, a worker's child whose worker is gone."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).parents()]
        commands = [" ".join(member.cmdline()) for member in family]
    except psutil.Error:
        return False
    children = [place for place, command in enumerate(commands) if any(name in command for name in OUR_CHILDREN)]
    if not children:
        return False
    above = commands[children[-1] + 1 :]
    return not above or "worker" not in above[0].split()
