"""What trials have started and left behind: found as descendants, for a process may leave its group and its session."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

import psutil

SWEEPS = 5
"""How often descendants are looked for again, of which some were started while the others were being killed."""

WAIT_SECONDS = 1.0
"""How long killed processes may take to be gone."""


def offspring(pid: int | None = None) -> set[psutil.Process]:
    """The descendants of a process, by default of this one; adopted orphans count."""
    try:
        return set(psutil.Process(os.getpid() if pid is None else pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def end_offspring(but_not: Collection[psutil.Process]) -> None:
    """Kill the descendants of this process that were not there before."""
    for _ in range(SWEEPS):
        left = offspring() - set(but_not)
        if not left:
            return
        kill(left)


def kill(processes: Collection[psutil.Process]) -> None:
    """Kill processes and wait a moment for their end; none of them is a later one of the same number."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(list(processes), timeout=WAIT_SECONDS)
