"""What a study takes of a disk, in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

from hpo_service.domain.decide.disk import DiskUse, disk_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import NotFoundError, UsageError
from hpo_service.service.studies.memory import memory_of


def disk_lines(spec: StudySpec, output: Path, cache: Path, store: str = "") -> list[str]:
    """Say what disk a study takes, and warn where this machine has less; nothing where the sizes are not known.

    Args:
        spec: the study.
        output: the folder in which its trials work on this machine; it need not exist.
        cache: where builtin models are kept.
        store: URL of the store, where adapters go; empty where there is none.
    """
    try:
        models, _ = memory_of(spec, cache)
    except (NotFoundError, UsageError):
        return []
    use = disk_of(spec, {model.name: model.outlook.largest for model in models})
    lines = [f"disk: about {_size(use.running_gb)} for each trial that runs at a time{_kept(use, store)}"]
    free = _free_gb(output)
    needed = use.running_gb if store else use.total_gb(1)
    if free is not None and free < needed:
        lines.append(
            f"warning: {_size(free)} are free in {output} and {_size(needed)} are needed: free space, choose another "
            "folder with --output or HPO_SERVICE_OUTPUT, or lower execution.keep_adapters and confirm.seeds"
        )
    return lines


def _kept(use: DiskUse, store: str) -> str:
    if not use.adapters:
        return ""
    where = " in the store" if store else ""
    return f", and {_size(use.kept_gb)} in the end for {use.adapters} adapters that are kept{where}"


def _size(size_gb: float) -> str:
    return f"{size_gb:.1f} GB" if size_gb >= 1 else f"{max(1.0, size_gb * 1e3):.0f} MB"


def _free_gb(folder: Path) -> float | None:
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free / 1e9
        except OSError:
            continue
    return None
