"""Which devices this machine has, asked of its driver (NVML) without loading torch."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pynvml

from hpo_service.domain.decide.placement import Resources, product_label
from hpo_service.domain.study.sections.requires import LABEL
from hpo_service.errors import HpoServiceError, UsageError

DRIVER_SECONDS = 20.0
"""How long the driver may take to answer: GPUs that nobody uses take seconds to wake, a broken driver for ever."""

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Gpu:
    """One GPU, or a slice of one (MIG).

    Attributes:
        index: how `CUDA_VISIBLE_DEVICES` names it.
        name: of the product.
        memory_mib: its memory in MiB; 0 where it is not told (memory shared with the host).
        uuid: its name for ever; empty where it is not told.
        slice_of: the number of the GPU that it is a slice of; None for a whole one.
    """

    index: str
    name: str
    memory_mib: int
    uuid: str = ""
    slice_of: str | None = None


def list_gpus() -> list[Gpu]:
    """List the GPUs this process may use; empty where there is no driver, or none that answers.

    A GPU that was cut into slices counts as these. `CUDA_VISIBLE_DEVICES` is honoured.
    """
    found = _in_time(_ask_driver)
    if found is None:
        log.warning("the NVIDIA driver has not answered for %g seconds: no GPU is used", DRIVER_SECONDS)
        return []
    return visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def resources(labels: Sequence[str] = ()) -> Resources:
    """Say what this process may use: its GPUs, the memory of the smallest of them, and labels.

    Args:
        labels: its own, given by a person.

    Raises:
        UsageError: no study could ask for such a label.
    """
    for label in labels:
        if not re.fullmatch(LABEL, label):
            raise UsageError(
                f"label {label!r} is none: up to 63 letters, digits and '._/=-', the first a letter or digit; "
                "correct --label or HPO_SERVICE_LABELS"
            )
    gpus = list_gpus()
    sizes = [gpu.memory_mib * 2**20 / 1e9 for gpu in gpus]
    kinds = [product_label(gpu.name) for gpu in gpus] + ["mig" for gpu in gpus if gpu.slice_of is not None]
    told = dict.fromkeys([*(["gpu", *kinds] if gpus else ["cpu"]), *labels])
    return Resources(len(gpus) or None, min(sizes) if all(sizes) and sizes else None, tuple(told))


def processes_on(gpus: Sequence[Gpu]) -> list[int]:
    """List the processes that hold memory of these GPUs, as far as the driver tells them; in a container it may not."""
    return _in_time(lambda: _ask_for_processes([gpu.uuid for gpu in gpus if gpu.uuid])) or []


def free_memory_mib(gpu: Gpu) -> int | None:
    """Memory of a GPU in MiB that nobody holds now; None where the driver does not tell it."""
    found = _in_time(lambda: _ask_for_free_memory(gpu.uuid)) if gpu.uuid else None
    return found[0] if found else None


def _in_time(ask: Callable[[], list[T]]) -> list[T] | None:
    """Ask the driver; None where it does not answer: a call into one that hangs cannot be ended, only left behind."""
    found: list[T] = []
    asking = threading.Thread(target=lambda: found.extend(ask()), name="nvml", daemon=True)
    asking.start()
    asking.join(DRIVER_SECONDS)
    return None if asking.is_alive() else found


def gpu_sizes() -> tuple[float, ...]:
    """Memory of this machine's GPUs in GB of 1e9 bytes, each size once; empty where none tells it."""
    try:
        found = {round(gpu.memory_mib * 2**20 / 1e9, 1) for gpu in list_gpus() if gpu.memory_mib}
    except HpoServiceError:
        return ()
    return tuple(sorted(found))


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
    for gpu in gpus:
        # a number that means a GPU in slices means the first of them
        if name in (gpu.index, gpu.slice_of) or (name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name)):
            return replace(gpu, index=name)
    # a slice by the names that drivers before R470 gave
    return Gpu(name, "slice of a GPU", 0, name) if name.startswith("MIG-") else None


def _ask_driver() -> list[Gpu]:
    try:
        pynvml.nvmlInit()
        try:
            return [gpu for number in range(pynvml.nvmlDeviceGetCount()) for gpu in _gpus(number)]
        finally:
            pynvml.nvmlShutdown()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return []
    except pynvml.NVMLError as error:
        log.warning("the NVIDIA driver does not work (%s): no GPU is used", error)
        return []


def _ask_for_processes(uuids: Sequence[str]) -> list[int]:
    found: list[int] = []
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            for uuid in uuids:
                handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                found += [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
        finally:
            pynvml.nvmlShutdown()
    return found


def _ask_for_free_memory(uuid: str) -> list[int]:
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            return [pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(uuid)).free // 2**20]
        finally:
            pynvml.nvmlShutdown()
    return []


def _gpus(number: int) -> Iterator[Gpu]:
    """The GPU of this number, or its slices; nothing where it is lost."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        if not _is_in_slices(handle):
            yield _gpu(handle, index=str(number))
            return
        for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(pynvml.NVMLError_NotFound):  # places may be empty
                yield _gpu(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place), slice_of=str(number))
    except pynvml.NVMLError as error:
        log.warning("GPU %d does not answer (%s): it is not used", number, error)


def _is_in_slices(handle: Any) -> bool:
    try:
        current, _after_restart = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError_NotSupported:
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _gpu(handle: Any, index: str = "", slice_of: str | None = None) -> Gpu:
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    memory = 0
    with suppress(pynvml.NVMLError_NotSupported):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total // 2**20
    return Gpu(index or uuid, pynvml.nvmlDeviceGetName(handle), memory, uuid, slice_of)
