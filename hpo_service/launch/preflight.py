"""Could this study run on this machine? What `doctor --study` looks at beside the machine: each check is a row."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

from hpo_service.domain.memory.estimate import estimate
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import NotFoundError, UsageError
from hpo_service.launch.devices import Gpu, free_memory_mib, list_gpus
from hpo_service.launch.readiness import CHECKS, Check, Finding, Machine, examine
from hpo_service.service.machine import NO_TRAINING_WITHOUT, missing_for_training, try_shared_folder
from hpo_service.service.studies.checks import too_few_gpus
from hpo_service.service.studies.data_report import ask
from hpo_service.service.studies.first_look import absent, first_look
from hpo_service.service.studies.memory import memory_of

CHILD = "hpo_service.training.preflight"
"""Looks at what only a process with the trainer's libraries can."""
LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs")
"""File systems of one machine."""
ASKED = 5
"""How often the database is asked for its latency."""
SLOW_SECONDS = 0.1
"""A round trip that takes longer slows claims down: each is some ten of them."""
BUSY = 0.1
"""Share of a GPU's memory that others may hold before somebody should know."""


def preflight(machine: Machine, study: StudySpec) -> list[Finding]:
    """Look at the machine, then at all that this study needs of it."""
    return examine(replace(machine, study=study), (*CHECKS, *STUDY_CHECKS))


def _study(machine: Machine) -> StudySpec:
    assert machine.study is not None
    return machine.study


def _libraries(check: Check, machine: Machine) -> Iterator[Finding]:
    if not _trains(machine):
        yield check.ok("not needed: the objective is the study's own")
        return
    wanted = (*NO_TRAINING_WITHOUT, "bitsandbytes") if _quantises(_study(machine)) else NO_TRAINING_WITHOUT
    missing = [name for name in missing_for_training() if name in wanted]
    yield check.error(f"{', '.join(missing)} not installed") if missing else check.ok("all that its trials import")


def _gpus(check: Check, machine: Machine) -> Iterator[Finding]:
    needed, gpus = _study(machine).execution.gpus_per_trial, list_gpus()
    if gpus and needed > len(gpus):
        raise too_few_gpus(needed, len(gpus))
    yield check.ok(f"a trial takes {needed}, {len(gpus)} can be used" if gpus else "none: trials share the CPU's cores")
    for gpu in gpus:
        free = free_memory_mib(gpu)
        if free is not None and free < (1 - BUSY) * gpu.memory_mib:
            yield check.warning(
                f"of gpu {gpu.index} only {free / 1024:.0f} of {gpu.memory_mib / 1024:.0f} GiB are free"
            )


def _memory(check: Check, machine: Machine) -> Iterator[Finding]:
    sizes = [size for gpu in list_gpus() if (size := _free_gb(gpu))]
    try:
        models, missing = memory_of(_study(machine), machine.settings.cache)
    except (UsageError, NotFoundError) as error:
        yield check.ok(f"not estimated: {error}")
        return
    for reason in missing:
        yield check.ok(f"not estimated: {reason}")
    for model in models:
        least, most = (estimate(ends).total_gb for ends in (model.outlook.smallest, model.outlook.largest))
        needs = f"trials of {model.name} need about {least:.1f} to {most:.1f} GB"
        if not sizes:
            yield check.ok(needs)
        elif model.outlook.micro_batch_on(max(sizes)) is not None:
            yield check.ok(f"{needs}, {max(sizes):.0f} GB are free")
        elif least <= max(sizes):
            yield check.warning(f"{needs}, {max(sizes):.0f} GB are free, so the largest are infeasible here")
        else:
            yield check.error(f"{needs}, but {max(sizes):.0f} GB are free")


def _free_gb(gpu: Gpu) -> float:
    free = free_memory_mib(gpu)
    return (gpu.memory_mib if free is None else free) * 2**20 / 1e9


def _latency(check: Check, machine: Machine) -> Iterator[Finding]:
    if machine.db.missing:
        yield check.ok("the database will be a file on this machine")
        return
    took = []
    for _ in range(ASKED):
        before = time.perf_counter()
        with machine.db.transaction(read_only=True):
            machine.db.clock()
        took.append(time.perf_counter() - before)
    middle = statistics.median(took)
    detail = f"the database answers in {1000 * middle:.1f} ms"
    yield check.warning(detail) if middle > SLOW_SECONDS else check.ok(detail)


def _shared(check: Check, machine: Machine) -> Iterator[Finding]:
    folder = machine.settings.output
    kind = try_shared_folder(folder)
    on = f"{folder} renames whole" + (f", on {kind}" if kind else "")
    if kind in LOCAL and machine.db.dialect != "sqlite":
        yield check.warning(f"{on}, which other nodes may not see")
    else:
        yield check.ok(on)


def _inputs(check: Check, machine: Machine) -> Iterator[Finding]:
    found = [each for each in first_look(_study(machine)) if each.level != "unchecked"]
    for each in found:
        yield Finding(check.name, "error" if each.level == "error" else "warning", str(each))
    if not found:
        yield check.ok("nothing is wrong with what of them lies on this machine")


def _child(check: Check, machine: Machine) -> Iterator[Finding]:
    study = _study(machine)
    if not _trains(machine) or any(name in NO_TRAINING_WITHOUT for name in missing_for_training()):
        return
    request = {"hub": absent(study), "quantises": _quantises(study)}
    status, said, last = ask(CHILD, json.dumps(request))
    try:
        yield from (Finding(**each) for each in json.loads(said)["findings"])
    except ValueError:
        yield check.error(f"the trainer's libraries end with status {status} ({last})")


def _trains(machine: Machine) -> bool:
    return _study(machine).objective is None


def _quantises(study: StudySpec) -> bool:
    """Whether its trials need bitsandbytes: for weights, or for an optimizer's states."""
    weights = study.model is not None and study.model.quantisation != "none"
    return weights or any("8bit" in str(name) for name in study.values_of("optimizer"))


STUDY_CHECKS = (
    Check("study's libraries", _libraries, "pip install 'hpo-service[train]'"),
    Check("study's gpus", _gpus, "see who holds the rest with nvidia-smi, and end it"),
    Check("study's memory", _memory, "`hpo-service memory FILE` has the parts, and what makes them smaller"),
    Check("latency", _latency, "start workers nearer to it, or have it moved nearer to them"),
    Check("shared folder", _shared, "trials of a node that is lost begin anew elsewhere, unless --output is shared"),
    Check("study's device", _child, "see nvidia-smi, and `pip check`"),
    Check("study's inputs", _inputs),
)
"""What `doctor --study` looks at beside the machine, in this order."""
