"""Folders that are whole or not there: written beside, synced to the disk, renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Fill a new folder and put it in the place of `target`, which is never seen half written."""
    unfinished = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    unfinished.mkdir(parents=True)
    try:
        write(unfinished)
        sync(unfinished)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_folder(target.parent)


def sync(folder: Path) -> None:
    """Wait until a folder and every file in it are on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's own entries are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
