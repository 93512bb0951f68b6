"""Which exceptions leave the process unusable, and other facts of life of a process with a device."""

from __future__ import annotations

import os

import torch

from hpo_service.errors import TrialError


def is_fatal(error: BaseException) -> bool:
    """Whether the process must be replaced: a device error poisons its context, and memory may stay taken."""
    if isinstance(error, TrialError):
        return error.fatal
    if isinstance(error, torch.cuda.OutOfMemoryError | torch.AcceleratorError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("CUDA" in text or "can't allocate memory" in text)


def set_threads() -> None:
    """Let torch use as many threads as OMP_NUM_THREADS says, where it says so."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))
