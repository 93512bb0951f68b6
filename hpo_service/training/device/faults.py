"""Which exceptions leave the process unusable, and other facts of life of a process with a device."""

from __future__ import annotations

import os

import torch

from hpo_service.errors import TrialError

# How libraries say that there is no memory left, where they have no type of their own for it.
NO_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
# What a program's own mistakes are called, and how torch says that two tensors do not go together.
PROGRAM_ERRORS = (AttributeError, LookupError, TypeError, NotImplementedError, AssertionError, ArithmeticError)
WRONG_SHAPE = ("shape", "size mismatch", "size of tensor", "dtype", "index out of", "dimension")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the GPU or on the host: with less of it the same work may go on."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def is_fatal(error: BaseException) -> bool:
    """Whether the process must be replaced: a device error poisons its context, and memory may stay taken."""
    if isinstance(error, TrialError):
        return error.fatal
    if is_out_of_memory(error) or isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and "CUDA" in str(error)


def will_recur(error: BaseException) -> bool:
    """Whether another attempt would end the same way: code met what it was not written for, and seeds are fixed.

    A RuntimeError counts where it is about shapes: torch says much else by that name, a lost peer among it.
    """
    if is_fatal(error) or isinstance(error, TrialError):
        return False
    shapes = type(error) is RuntimeError and any(words in str(error) for words in WRONG_SHAPE)
    return shapes or isinstance(error, PROGRAM_ERRORS)


def one_thread_on_a_cpu() -> None:
    """Be as fast as one of several workers that share a CPU's cores, where there is no GPU."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)


def set_threads() -> None:
    """Let torch use as many threads as OMP_NUM_THREADS says, where it says so."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))
