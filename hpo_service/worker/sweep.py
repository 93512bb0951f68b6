"""Removing checkpoints of trials that ended without their holder: taken back by the reaper, or cancelled in waiting."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from hpo_service.wire.attempt_folder import UNFINISHED, AttemptFolder
from hpo_service.worker.handover import discard_checkpoints

AT_ONCE = 500
"""Trials that one sweep asks about."""

Ended = Callable[[Collection[str]], Collection[str]]
"""Tells which of these trials, by identity, have ended."""


def sweep(output: Path, ended: Ended, discarded: Callable[[str, str, str], object] = lambda *_: None) -> None:
    """Remove what trials left in this folder that have ended by now; those of other databases are left alone.

    Args:
        output: the output folder.
        ended: tells which trials have ended.
        discarded: told study, key and identity of each whose checkpoints were removed.

    It costs as much as there are trials with checkpoints, however many have ended.
    """
    found = {path: _identity(path) for path in output.glob(f"*/trials/{UNFINISHED}/*")}
    asked = sorted({identity for identity in found.values() if identity})[:AT_ONCE]
    over = frozenset(ended(asked)) if asked else frozenset[str]()
    for path, identity in found.items():
        if identity in over:
            discard_checkpoints(AttemptFolder.numbered(path.parent.parent / path.name, 1))
            discarded(path.parents[2].name, path.name, identity)


def _identity(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
