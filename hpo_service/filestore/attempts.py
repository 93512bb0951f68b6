"""What of a trial is kept in the store: the newest checkpoint with the reports that lie behind it, and its adapter.

A trial works in a folder of its node. What it saves there is copied to the store at once, and an attempt on another
node takes it from there. Each attempt writes to a place of its own, so that a stale holder overwrites nothing.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.report import Report
from hpo_service.errors import FileStoreError
from hpo_service.filestore.bundle import Bundle
from hpo_service.filestore.store import FileStore, store_at
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.digests import digest_of_text
from hpo_service.wire.undelivered import read_undelivered

CHECKPOINT, ADAPTER = "checkpoint", "adapter"
DEATHS = 2
"""Attempts that may die on the same checkpoint; the last attempt of a trial then starts afresh."""
FETCH_SECONDS = 3600.0
"""How long fetching a checkpoint counts as a sign of life."""

log = logging.getLogger(__name__)


class Link(Protocol):
    """What a child knows of its trial, and says to its supervisor."""

    @property
    def assignment(self) -> Assignment:
        """What was claimed."""

    @property
    def folder(self) -> AttemptFolder:
        """Of the attempt, on this node."""

    @property
    def store(self) -> str:
        """URL of the store; empty where there is none."""

    def busy(self, activity: str, limit: float = ...) -> AbstractContextManager[None]:
        """Give signs of life meanwhile."""

    def report(self, report: Report) -> object | None:
        """Send a report; an answer is an order to stop."""

    def checkpoint_lost(self, reason: str) -> None:
        """Say that a checkpoint was lost."""


def trial_place(study: str, key: str, identity: str) -> str:
    """The place of a trial; one of the same name in another database, or made again, has another."""
    return f"{study}/trials/{key}.{digest_of_text(identity)[:8]}"


def place_of(assignment: Assignment, attempt: int, what: str) -> str:
    """The place of what an attempt of a trial keeps."""
    return f"{trial_place(assignment.study, assignment.key, assignment.identity)}/attempt-{attempt}/{what}"


def mirror(link: Link) -> None:
    """Copy the checkpoint that lies in an attempt's folder to the store, in the place of every earlier one.

    Raises:
        FileStoreError: it could not be; the one before stays.
    """
    store = store_at(link.store)
    if store is None:
        return
    assignment, folder = link.assignment, link.folder
    files = {path.relative_to(folder.path).as_posix(): path for path in _to_keep(folder)}
    about = {"trial": assignment.identity, "attempt": assignment.attempt, "failures": assignment.failures}
    with link.busy("copying the checkpoint to the store", FETCH_SECONDS):
        store.put(place_of(assignment, assignment.attempt, CHECKPOINT), files, about)
        for attempt in range(1, assignment.attempt):
            store.remove(place_of(assignment, attempt, CHECKPOINT))


def restore(link: Link) -> None:
    """Bring the newest checkpoint of a trial into this attempt's folder, where it is newer than what lies there.

    The reports behind it that no database has heard of are delivered first. A store that does not answer costs the
    checkpoint, and the trial starts from what is here.
    """
    store = store_at(link.store)
    if store is None:
        return
    try:
        with link.busy("looking for a checkpoint in the store", FETCH_SECONDS):
            found = _newer(store, link)
            if found is None:
                return
            _fetch(store, found, link.folder)
    except FileStoreError as error:
        link.checkpoint_lost(str(error))
        return
    log.info("%s goes on from %s", link.assignment.name, store.shown(found.place))
    for report in read_undelivered(link.folder, link.assignment.attempt, link.assignment.identity):
        if link.report(report) is not None:
            return


def keep_adapter(link: Link) -> str:
    """Copy an attempt's adapter to the store, and return its URL; without a store, where it lies.

    Raises:
        FileStoreError: it could not be.
    """
    assignment, source, store = link.assignment, link.folder.adapter, store_at(link.store)
    if store is None:
        return str(source)
    place = place_of(assignment, assignment.attempt, ADAPTER)
    files = {path.relative_to(source).as_posix(): path for path in _files(source)}
    with link.busy("copying the adapter to the store", FETCH_SECONDS):
        store.put(place, files, {"trial": assignment.identity})
    shutil.rmtree(source, ignore_errors=True)
    return store.shown(place)


def discard_checkpoints(store: FileStore, place: str) -> None:
    """Remove the checkpoints of all attempts of the trial in a place; raises FileStoreError."""
    for attempt in store.folders(place):
        store.remove(f"{place}/{attempt}/{CHECKPOINT}")


def _newer(store: FileStore, link: Link) -> Bundle | None:
    """The checkpoint of the latest attempt that left one in the store, unless what lies here is as new."""
    assignment = link.assignment
    if assignment.attempt == 1 or not assignment.identity:
        return None
    here = max((number for number, each in _earlier(link.folder, assignment) if _has_checkpoint(each)), default=0)
    for attempt in range(assignment.attempt - 1, here, -1):
        bundle = store.newest(place_of(assignment, attempt, CHECKPOINT))
        if bundle is None or bundle.about.get("trial") != assignment.identity:
            continue
        if assignment.last and assignment.failures - int(bundle.about.get("failures", 0)) >= DEATHS:
            log.warning("%s: %d attempts died on its checkpoint: the last one starts afresh", assignment.name, DEATHS)
            return None
        return bundle
    return None


def _fetch(store: FileStore, bundle: Bundle, folder: AttemptFolder) -> None:
    """Fetch beside its place, then move it there: a kill in between leaves none, never half of one."""
    partial = folder.partial_checkpoint
    shutil.rmtree(partial, ignore_errors=True)
    store.fetch(bundle, partial)
    earlier = AttemptFolder.numbered(folder.trial, int(bundle.about["attempt"]))
    try:
        shutil.rmtree(folder.checkpoint, ignore_errors=True)
        # before the checkpoint that lies ahead of them
        _move(partial, earlier.undelivered.name, earlier.undelivered)
        _move(partial, folder.seal.name, folder.seal)
        (partial / CHECKPOINT).rename(folder.checkpoint)
    except OSError as error:
        raise FileStoreError(f"the checkpoint of the store cannot be put in {folder.path}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move(folder: Path, name: str, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        source = folder / name
        source.stat()
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)


def _earlier(folder: AttemptFolder, assignment: Assignment) -> Iterator[tuple[int, AttemptFolder]]:
    yield from enumerate(AttemptFolder.first(folder.trial, assignment.attempt - 1), start=1)


def _has_checkpoint(folder: AttemptFolder) -> bool:
    try:
        return any(folder.checkpoint.iterdir())
    except OSError:
        return False


def _to_keep(folder: AttemptFolder) -> Iterator[Path]:
    yield from (path for path in _files(folder.checkpoint) if not path.parent.name.startswith(".unfinished-"))
    yield from (path for path in (folder.seal, folder.undelivered) if path.is_file() and not path.is_symlink())


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder; links, which could lead anywhere, are left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not any(up.is_symlink() for up in path.parents):
            yield path
