"""The seal on what an objective saved: digests, taken when an attempt has come to an end and looked at by the next one.

What the objective writes is its own affair, so that a seal can only be had while nobody writes. An attempt that was
killed leaves none, and its checkpoint is taken as it is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil

from hpo_service.errors import FileStoreError
from hpo_service.filestore.attempts import mirror
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.child import TrialLink
from hpo_service.wire.digests import damaged_file, digests_of

log = logging.getLogger(__name__)


def seal(link: TrialLink) -> None:
    """Note what the objective has saved, for the attempt that will take it up; not where a forked copy ends."""
    folder = link.folder
    if not link.speaks or not folder.checkpoint.is_dir():
        return
    with link.busy("taking digests of the checkpoint"), contextlib.suppress(OSError):
        text = json.dumps({"trial": link.assignment.identity, "digests": digests_of(folder.checkpoint)})
        unfinished = folder.seal.with_suffix(".partial")
        unfinished.write_text(text)
        unfinished.replace(folder.seal)
    copy_to_store(link)


def copy_to_store(link: TrialLink) -> None:
    """Copy what the objective has saved to the store, if there is one; nobody may write to it meanwhile."""
    if not link.speaks or not link.folder.checkpoint.is_dir():
        return
    try:
        mirror(link)
    except FileStoreError as error:
        link.checkpoint_lost(str(error))


def break_seal(link: TrialLink) -> str:
    """Look whether a checkpoint is as it was left, and take the seal off, for the objective will change it.

    Returns:
        Why the checkpoint was set aside, so that the trial starts afresh; empty where it is whole or has no seal.
    """
    folder = link.folder
    if not folder.seal.exists():
        return ""
    with link.busy("looking at the checkpoint's digests"):
        reason = _damage(folder, link.assignment.identity)
    folder.seal.unlink(missing_ok=True)
    if reason:
        log.warning("%s is set aside as %s: %s", folder.checkpoint, folder.refused_checkpoint.name, reason)
        shutil.rmtree(folder.refused_checkpoint, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            folder.checkpoint.rename(folder.refused_checkpoint)
    return reason


def _damage(folder: AttemptFolder, trial: str) -> str:
    try:
        sealed = json.loads(folder.seal.read_text())
        if sealed["trial"] != trial:
            return "the checkpoint belongs to a trial of the same name that was deleted"
        damaged = damaged_file(folder.checkpoint, sealed["digests"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"the checkpoint's seal cannot be read: {' '.join(str(error).split())}"
    return f"the checkpoint is damaged: {damaged} is not as it was left" if damaged else ""
