"""What lies in the output folder and in the store that no trial needs any more: found, and removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hpo_service.filestore.attempts import ADAPTER, CHECKPOINT, trial_place
from hpo_service.filestore.store import FileStore
from hpo_service.service.trials.identity import identity_of
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trial.trials import TrialRow, TrialStore
from hpo_service.wire.attempt_folder import AttemptFolder, trials_folder


@dataclass(frozen=True)
class Needless:
    """Something that may go.

    Attributes:
        where: folder or URL.
        why: in words.
        size: in bytes.
        remove: removes it.
    """

    where: str
    why: str
    size: int
    remove: Callable[[], object] = field(repr=False, compare=False)


@dataclass(frozen=True)
class _Trials:
    """The trials of a study, by the names that their folders and places have."""

    study: str
    by_key: dict[str, TrialRow]
    by_place: dict[str, TrialRow]
    adapters: frozenset[str]

    @classmethod
    def of(cls, study: str, stages: dict[int, str], rows: list[TrialRow]) -> _Trials:
        named = {f"{stages[row.stage_id]}-{row.number:04d}": row for row in rows if row.number is not None}
        places = {trial_place(study, key, identity_of(row)): row for key, row in named.items()}
        return cls(study, named, places, frozenset(row.adapter for row in rows if row.adapter is not None))


@dataclass(frozen=True)
class Cleaning:
    """Finds what a study leaves behind; what a trial needs that may still be run is never among it."""

    db: Database
    studies: StudyStore
    trials: TrialStore

    def find(self, study: str, output: Path, store: FileStore | None, *, strangers: bool = False) -> list[Needless]:
        """Return what may go: checkpoints of trials that have ended, and adapters that are not kept.

        Args:
            study: its name.
            output: the output folder of this node.
            store: the store, if there is one.
            strangers: also of trials that this database does not know: of a study that was deleted, or of one of the
                same name in another database, which may need them.

        Raises:
            NotFoundError: there is no study of this name.
            FileStoreError: the store does not answer.
        """
        with self.db.transaction(read_only=True):
            row = self.studies.get(study)
            stages = {stage.id: stage.stage for stage in self.studies.stages(row.id)}
            known = _Trials.of(study, stages, list(self.trials.list(row.id)))
        found = list(_in_output(output, known, strangers=strangers))
        return found + (list(_in_store(store, known, strangers=strangers)) if store is not None else [])


def _in_output(output: Path, known: _Trials, *, strangers: bool) -> Iterator[Needless]:
    for folder in sorted(trials_folder(output, known.study).glob("*/attempt-*")):
        if folder.is_symlink() or folder.parent.is_symlink():
            continue
        attempt, trial = AttemptFolder(folder), known.by_key.get(folder.parent.name)
        identity = _identity(attempt)
        stranger = trial is None or identity not in ("", identity_of(trial))
        if stranger and not strangers:
            continue
        if not stranger and trial is not None and not trial.state.final:
            continue
        why = "this database knows no such trial" if stranger or trial is None else f"the trial is {trial.state}"
        for path in (attempt.checkpoint, attempt.partial_checkpoint, attempt.refused_checkpoint):
            yield from _local(path, f"checkpoint: {why}")
        if str(attempt.adapter) not in known.adapters:
            yield from _local(attempt.adapter, "adapter: it is not among those that are kept")
        for path in sorted(folder.glob(f".{ADAPTER}-*")):
            yield from _local(path, "adapter: its writing broke off")


def _in_store(store: FileStore, known: _Trials, *, strangers: bool) -> Iterator[Needless]:
    trials = f"{known.study}/trials"
    for name in store.folders(trials):
        place = f"{trials}/{name}"
        trial = known.by_place.get(place)
        if trial is None:
            if strangers:
                yield from _stored(store, place, "this database knows no such trial")
            continue
        if not trial.state.final:
            continue
        for attempt in store.folders(place):
            yield from _stored(store, f"{place}/{attempt}/{CHECKPOINT}", f"checkpoint: the trial is {trial.state}")
            adapter = f"{place}/{attempt}/{ADAPTER}"
            if store.shown(adapter) not in known.adapters:
                yield from _stored(store, adapter, "adapter: it is not among those that are kept")


def _stored(store: FileStore, place: str, why: str) -> Iterator[Needless]:
    size = store.size(place)
    if size:
        yield Needless(store.shown(place), why, size, partial(store.remove, place))


def _local(path: Path, why: str) -> Iterator[Needless]:
    if path.is_dir() and not path.is_symlink():
        size = sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())
        yield Needless(str(path), why, size, partial(shutil.rmtree, path, ignore_errors=True))


def _identity(folder: AttemptFolder) -> str:
    """Which trial an attempt's folder says it is of; empty where it does not say."""
    try:
        return str(json.loads(folder.configuration.read_text())["claim"]["trial"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
