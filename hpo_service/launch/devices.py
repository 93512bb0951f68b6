"""Which devices this machine has, found without loading torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace

from hpo_service.errors import HpoServiceError


@dataclass(frozen=True)
class Gpu:
    """One GPU, or a slice of one.

    Attributes:
        index: how `CUDA_VISIBLE_DEVICES` names it.
        name: of the product.
        memory_mib: its memory in MiB; 0 where it is not told (memory shared with the host, slices).
        uuid: its name for ever; empty where it is not told.
    """

    index: str
    name: str
    memory_mib: int
    uuid: str = ""


def list_gpus() -> list[Gpu]:
    """List the GPUs this process may use; empty where there is no driver.

    `CUDA_VISIBLE_DEVICES` is honoured.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return visible(parse_gpus(listing.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def gpu_sizes() -> tuple[float, ...]:
    """Memory of this machine's GPUs in GB of 1e9 bytes, each size once; empty where none tells it."""
    try:
        found = {round(gpu.memory_mib * 2**20 / 1e9, 1) for gpu in list_gpus() if gpu.memory_mib}
    except HpoServiceError:
        return ()
    return tuple(sorted(found))


def parse_gpus(listing: str) -> list[Gpu]:
    """Parse `index, uuid, name, memory` lines; a line that does not fit is left out."""
    gpus = []
    for line in listing.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[0].isdigit():
            index, uuid, name, memory = fields
            gpus.append(Gpu(index, name, int(memory) if memory.isdigit() else 0, uuid))
    return gpus


def visible(gpus: list[Gpu], allowed: str | None) -> list[Gpu]:
    """Keep the GPUs that a `CUDA_VISIBLE_DEVICES` value names, by its names; None keeps all.

    As CUDA does it: indexes, UUIDs or their beginnings, slices (`MIG-...`); what follows an unknown name is hidden.
    """
    if allowed is None:
        return gpus
    seen: list[Gpu] = []
    for name in (part.strip() for part in allowed.split(",")):
        gpu = _named(gpus, name)
        if gpu is None:
            break
        seen.append(gpu)
    return seen


def _named(gpus: list[Gpu], name: str) -> Gpu | None:
    if name.startswith("MIG-"):
        return Gpu(name, "slice of a GPU", 0, name)
    for gpu in gpus:
        if gpu.index == name or (name.startswith("GPU-") and gpu.uuid.startswith(name)):
            return replace(gpu, index=name)
    return None
