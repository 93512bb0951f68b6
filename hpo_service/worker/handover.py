"""How a checkpoint passes from attempt to attempt of a trial, and goes when the trial has ended."""

from __future__ import annotations

import contextlib
import logging
import shutil

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.links import leading_out_of, remove_links
from hpo_service.worker.attempt_record import AttemptRecord

COPIES = 2
"""How often a checkpoint is copied while a holder that is leaving still changes it."""
DEATHS = 2
"""Attempts in a row that may die on the same checkpoint; the last attempt of a trial then starts afresh."""

log = logging.getLogger(__name__)


def prepare_folder(folder: AttemptFolder, assignment: Assignment) -> bool:
    """Make the folder of an attempt, with the newest checkpoint of an earlier attempt in it.

    A study that was deleted, or whose database was, may have left checkpoints under the same names: one is taken
    only from an attempt of the same trial with the same configuration, and what lies in this attempt's own place is
    removed. Of the checkpoints of earlier attempts the one that was taken stays, for this holder may not get far;
    older ones go. What cannot be written (disk full) is left out: the trial starts afresh. Symbolic links that somebody
    put in the place of an attempt's files are removed, and those inside a checkpoint are not followed out of it.

    Returns:
        Whether there was a checkpoint.
    """
    record = AttemptRecord.of(assignment)
    try:
        for each in (*folder.earlier, folder):
            remove_links(each)
        folder.path.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        record.write(folder)
        folder.enlist(assignment.identity)
    except OSError as error:
        log.warning("%s cannot be written, checkpoints of it may be lost: %s", folder.path, error)
    earlier = _of_this_run(folder, record)
    if assignment.last and _died_in_a_row(earlier, record):
        set_aside(earlier[0], f"{DEATHS} attempts in a row died on this checkpoint: the last one starts afresh")
        for each in earlier:
            _discard(each)
        return False
    for source in sorted(earlier, key=_is_empty):
        if _hand_over(source, folder):
            for older in earlier[earlier.index(source) + 1 :]:
                _discard(older)
                shutil.rmtree(older.refused_checkpoint, ignore_errors=True)
            return True
    return False


def set_aside(folder: AttemptFolder, reason: str) -> None:
    """Rename an attempt's checkpoint, so that nobody resumes from it; of each trial the last one is kept so."""
    if not folder.checkpoint.exists():
        return
    for each in AttemptFolder.found_in(folder.trial):
        shutil.rmtree(each.refused_checkpoint, ignore_errors=True)
    log.warning("%s is set aside as %s: %s", folder.checkpoint, folder.refused_checkpoint.name, reason)
    with contextlib.suppress(OSError):
        folder.checkpoint.rename(folder.refused_checkpoint)


def discard_checkpoints(folder: AttemptFolder) -> None:
    """Remove the checkpoints of a trial that has ended, of all its attempts."""
    for each in AttemptFolder.found_in(folder.trial):
        _discard(each)
        shutil.rmtree(each.refused_checkpoint, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.unfinished.unlink(missing_ok=True)


def _clear(folder: AttemptFolder) -> None:
    """Remove from an attempt's own place what only a trial can have left that was deleted; raises OSError."""
    _discard(folder)
    with contextlib.suppress(FileNotFoundError):
        folder.undelivered.replace(folder.refused_undelivered)
        log.warning("reports of a trial that was deleted are set aside as %s", folder.refused_undelivered)


def _of_this_run(folder: AttemptFolder, record: AttemptRecord) -> list[AttemptFolder]:
    """Earlier attempts whose checkpoints fit, the latest first; those of a trial that was deleted are set aside."""
    fitting: list[AttemptFolder] = []
    for each in folder.earlier:
        found = AttemptRecord.read(each)
        if record.may_take_over(found):
            fitting.append(each)
        elif found is not None and record.is_of_another_trial(found):
            set_aside(each, "it belongs to a trial of the same name that was deleted")
    return fitting


def _died_in_a_row(earlier: list[AttemptFolder], record: AttemptRecord) -> bool:
    """Whether the last attempts all failed and left the checkpoint that the first of them had begun from or written."""
    latest = earlier[:DEATHS]
    first = AttemptRecord.read(latest[-1]) if len(latest) == DEATHS else None
    if first is None or first.failures is None or record.failures is None:
        return False
    listings = [_listing(each) for each in latest]
    all_failed = record.failures - first.failures == DEATHS
    return all_failed and bool(listings[0]) and all(each == listings[0] for each in listings)


def _listing(folder: AttemptFolder) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files of a checkpoint; a copy has those of its original."""
    with contextlib.suppress(OSError):
        files = [(path, path.stat()) for path in sorted(folder.checkpoint.rglob("*")) if path.is_file()]
        return [(str(path.relative_to(folder.checkpoint)), at.st_size, at.st_mtime_ns) for path, at in files]
    return []


def _is_empty(folder: AttemptFolder) -> bool:
    """Whether nothing was saved, or all of it was set aside: an attempt before may have left more."""
    with contextlib.suppress(OSError):
        return not any(folder.checkpoint.iterdir())
    return True


def _hand_over(earlier: AttemptFolder, folder: AttemptFolder) -> bool:
    """Copy a checkpoint beside its place, then move it there: a kill in between leaves none, never half of one."""
    source, partial = earlier.checkpoint, folder.partial_checkpoint
    for _ in range(COPIES):
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            if not source.is_dir():
                return False
            # before the files that it speaks of: a holder that still changes them has none
            if earlier.seal.exists():
                shutil.copyfile(earlier.seal, folder.seal)
            shutil.copytree(source, partial, ignore=leading_out_of(source))
            partial.replace(folder.checkpoint)
            return True
    _discard(folder)
    return False


def _discard(folder: AttemptFolder) -> None:
    for each in (folder.checkpoint, folder.partial_checkpoint):
        shutil.rmtree(each, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.seal.unlink(missing_ok=True)
