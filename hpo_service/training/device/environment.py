"""What a run leaves behind about where it ran: device, memory, and the versions that its numbers depend on."""

from __future__ import annotations

import platform
import resource
from importlib.metadata import PackageNotFoundError, version

import torch

LIBRARIES = ("hpo-service", "torch", "transformers", "peft", "accelerate", "bitsandbytes")
"""Packages whose version decides the numbers of a run."""


def device_name() -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def try_device() -> str:
    """Allocate and compute something on the device, and return its name; a broken one raises what it has to say."""
    if torch.cuda.is_available():
        numbers = torch.arange(64.0, device="cuda")
        if float(numbers @ numbers) != float(sum(n * n for n in range(64))):
            raise RuntimeError("the GPU multiplies wrongly")
    return device_name()


def versions() -> str:
    """List Python, the libraries that are installed, and CUDA where torch was built for it, on one line."""
    found = [f"python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    if torch.version.cuda is not None:
        found.append(f"cuda {torch.version.cuda}")
    return ", ".join(found)


def peak_memory_gb() -> float:
    """Most memory held so far, in GB (1e9 bytes): of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    # kibibytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
