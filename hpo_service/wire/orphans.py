"""Processes whose parent is gone: on Linux a process may adopt those among its descendants, and so find them again.

A session or a process group is left by one call; whose descendant a process is, it cannot choose.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, where the system can do that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopting() -> bool:
    """Whether this process adopts orphans."""
    answer = ctypes.c_int(0)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def reap(pids: Iterable[int]) -> None:
    """Take note of the end of adopted processes that were killed; those that are not ours are left alone."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
