"""Symbolic links that somebody put in the place of an attempt's files: removed, and never followed out of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from hpo_service.wire.attempt_folder import AttemptFolder

log = logging.getLogger(__name__)


def remove_links(folder: AttemptFolder) -> None:
    """Remove links that stand for an attempt's folder or for what belongs in it.

    Raises:
        OSError: one cannot be removed.
    """
    for link in folder.links:
        log.warning("%s is a symbolic link, which is removed: checkpoints are kept in the study's own folder", link)
        link.unlink()


def leading_out_of(checkpoint: Path) -> Callable[[str, list[str]], list[str]]:
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
