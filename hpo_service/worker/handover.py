"""How a checkpoint passes from attempt to attempt of a trial, and goes when the trial has ended."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.wire.attempt_folder import AttemptFolder

COPIES = 2
"""How often a checkpoint is copied while a holder that is leaving still changes it."""

log = logging.getLogger(__name__)


def prepare_folder(folder: AttemptFolder, assignment: Assignment) -> bool:
    """Make the folder of an attempt, with the newest checkpoint of an earlier attempt in it.

    A study that was deleted, or whose database was, may have left checkpoints under the same names: one is taken
    only from an attempt with the same configuration, and what lies in this attempt's own place is removed. What
    cannot be written (disk full) is left out: the trial starts afresh. Symbolic links that somebody put in the place of
    an attempt's files are removed, and those inside a checkpoint are not followed out of it.

    Returns:
        Whether there was a checkpoint.
    """
    about = assignment.config.model_dump_json(exclude_defaults=True)
    earlier = AttemptFolder.first(folder.trial, assignment.attempt - 1)
    try:
        for each in (*earlier, folder):
            _remove_links(each)
        folder.path.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder.checkpoint, ignore_errors=True)
        folder.configuration.write_text(about)
    except OSError as error:
        log.warning("%s cannot be written, checkpoints of it may be lost: %s", folder.path, error)
    return any(_hand_over(each, folder, about) for each in reversed(earlier))


def _hand_over(earlier: AttemptFolder, folder: AttemptFolder, about: str) -> bool:
    """Copy a checkpoint beside its place, then move it there: a kill in between leaves none, never half of one."""
    source, partial = earlier.checkpoint, folder.partial_checkpoint
    for _ in range(COPIES):
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if not source.is_dir() or earlier.configuration.read_text() != about:
                return False
            shutil.copytree(source, partial, ignore=_leading_out_of(source))
            partial.replace(folder.checkpoint)
            return True
    shutil.rmtree(partial, ignore_errors=True)
    return False


def _remove_links(folder: AttemptFolder) -> None:
    for link in folder.links:
        log.warning("%s is a symbolic link, which is removed: checkpoints are kept in the study's own folder", link)
        link.unlink()


def _leading_out_of(checkpoint: Path) -> Callable[[str, list[str]], list[str]]:
    """Return what names links in a folder that lead out of the checkpoint, or up to where they lie themselves."""
    top = _real(checkpoint)

    def leading_out(folder: str, names: list[str]) -> list[str]:
        here = Path(folder)
        targets = {name: _real(here / name) for name in names if (here / name).is_symlink()}
        return [
            name
            for name, target in targets.items()
            if not target.is_relative_to(top) or _real(here).is_relative_to(target)
        ]

    return leading_out


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve it ends where links go round in circles


def discard_checkpoints(folder: AttemptFolder) -> None:
    """Remove the checkpoints of a trial that has ended, of all its attempts."""
    for each in AttemptFolder.found_in(folder.trial):
        shutil.rmtree(each.checkpoint, ignore_errors=True)  # of a link to a folder, neither the link nor the folder
