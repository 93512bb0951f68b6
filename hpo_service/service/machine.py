"""What a machine must have to do work: asked by `doctor`, and by a worker before its first claim."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from hpo_service.errors import HpoServiceError, UnfitWorkerError
from hpo_service.service.versions import untested
from hpo_service.storage.database import Database

TRAINER_PACKAGES = ("torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes")
"""What the trainer imports, and the manager does not have."""
NO_TRAINING_WITHOUT = TRAINER_PACKAGES[:-1]
"""Those that every trial needs; the last one only where a base is quantised."""
CLOCK_SECONDS = 30.0
"""By how much two machines' clocks may differ before somebody should know."""
MOVE = "name a folder on a POSIX file system (NFS, Lustre, a local disk) with --output or HPO_SERVICE_OUTPUT"

log = logging.getLogger(__name__)


def require_fit(db: Database, output: Path, *, trains: bool) -> None:
    """Make sure that a worker can do its work here; a clock that differs and versions nobody tested are only said.

    Args:
        db: where it claims.
        output: where it writes.
        trains: whether it is to run trials of the built-in trainer.

    Raises:
        UnfitWorkerError: it cannot; the message says what to do.
        DatabaseUnavailableError: the database does not answer.
    """
    try:
        try_folder(output)
    except HpoServiceError as error:
        raise UnfitWorkerError(str(error)) from error
    missing = [name for name in missing_for_training() if name in NO_TRAINING_WITHOUT]
    if trains and missing:
        raise UnfitWorkerError(
            f"{', '.join(missing)} not installed: this machine can manage but not train; "
            "pip install 'hpo-service[train]'"
        )
    if difference := clock_difference(db):
        log.warning(difference)
    for line in untested():
        log.warning(line)


def missing_for_training() -> list[str]:
    """The packages that the trainer wants and this installation lacks."""
    return [name for name in TRAINER_PACKAGES if importlib.util.find_spec(name) is None]


def try_folder(folder: Path) -> float:
    """Write a file into a folder and rename it, as everything that is kept there is written; return the free GB.

    Raises:
        HpoServiceError: that cannot be done; the message names the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number, written = tempfile.mkstemp(dir=folder, prefix=".write-test-")
        try:
            os.write(number, b"x")
            os.close(number)
            Path(written).replace(f"{written}-renamed")
        finally:
            for left in (written, f"{written}-renamed"):
                with contextlib.suppress(OSError):
                    Path(left).unlink()
        return shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        raise HpoServiceError(
            f"{folder} cannot be written ({error.strerror or error}): free space or give this user the right to "
            "write there, or choose another folder with --output or HPO_SERVICE_OUTPUT"
        ) from error


def try_shared_folder(folder: Path) -> str:
    """Replace a file and rename a folder, as checkpoints are kept; return the kind of file system ("" if unknown).

    Raises:
        HpoServiceError: it does not do that whole; the message names the folder.
    """
    place = Path(tempfile.mkdtemp(dir=folder, prefix=".rename-test-"))
    try:
        for name in ("old", "new"):
            (place / name).write_text(name)
        (place / "new").replace(place / "old")
        (place / "unfinished").mkdir()
        (place / "unfinished" / "weights").write_text("whole")
        (place / "unfinished").rename(place / "finished")
        kept = ((place / "old").read_text(), (place / "finished" / "weights").read_text())
        if kept != ("new", "whole") or (place / "unfinished").exists():
            raise HpoServiceError(f"{folder} does not rename whole: its checkpoints could be half written; {MOVE}")
    except OSError as error:
        raise HpoServiceError(f"{folder} cannot rename ({error.strerror or error}); {MOVE}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return file_system(folder)


def file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on, such as ext4 or nfs4; empty where that is not told."""
    real = folder.resolve()
    mounts = {Path(mount.mountpoint): str(mount.fstype) for mount in psutil.disk_partitions(all=True)}
    return next((mounts[parent] for parent in (real, *real.parents) if parent in mounts), "")


def clock_difference(db: Database, now: Callable[[], float] = time.time) -> str:
    """Say by how much this machine's clock differs from the database's, which counts; empty where it hardly does.

    Raises:
        DatabaseUnavailableError: it does not answer.
    """
    before = now()
    with db.transaction(read_only=True):
        theirs = db.clock()
    after = now()
    ahead = before - theirs if before > theirs else min(0.0, after - theirs)
    if abs(ahead) <= CLOCK_SECONDS:
        return ""
    side = "ahead of" if ahead > 0 else "behind"
    return (
        f"this machine's clock is {abs(ahead):.0f} s {side} the database's. Leases and budgets go by the database's "
        "and stay right; times in this machine's logs and files do not fit them: set its clock (NTP)"
    )
