"""Which devices this machine has, found without loading torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver lists it; memory in MiB."""

    index: str
    name: str
    memory_mib: int


def list_gpus() -> list[Gpu]:
    """List the GPUs this process may use; empty where there is no driver.

    `CUDA_VISIBLE_DEVICES` is honoured.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return visible(parse_gpus(listing.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(listing: str) -> list[Gpu]:
    """Parse `index, name, memory` lines; a line that does not fit is left out."""
    gpus = []
    for line in listing.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[2].isdigit():
            gpus.append(Gpu(fields[0], fields[1], int(fields[2])))
    return gpus


def visible(gpus: list[Gpu], allowed: str | None) -> list[Gpu]:
    """Keep the GPUs that a `CUDA_VISIBLE_DEVICES` value names; None keeps all."""
    if allowed is None:
        return gpus
    names = [name.strip() for name in allowed.split(",") if name.strip()]
    return [gpu for name in names for gpu in gpus if gpu.index == name]
