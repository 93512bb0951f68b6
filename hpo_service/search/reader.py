"""Reading a study's trials again and again without loading the finished ones twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from hpo_service.search.enlisted import EnlistedStorage


@dataclass(frozen=True)
class _Seen:
    """What earlier reads found: finished trials by row, the rows still open, and the highest row of all."""

    finished: Mapping[int, FrozenTrial] = field(default_factory=dict)
    unfinished: frozenset[int] = frozenset()
    highest: int = -1

    @property
    def anchor(self) -> int | None:
        """The newest finished trial, read again each time to notice that the study was deleted and made anew."""
        return max(self.finished, default=None)

    def followed_by(self, fresh: Mapping[int, FrozenTrial]) -> bool:
        """Whether a later read shows the same study: all rows that must still be there are."""
        if not self.unfinished <= fresh.keys():
            return False
        anchor = self.anchor
        return anchor is None or (anchor in fresh and _identity(fresh[anchor]) == _identity(self.finished[anchor]))

    def with_trials(self, fresh: Mapping[int, FrozenTrial]) -> _Seen:
        done = {row: trial for row, trial in fresh.items() if trial.state.is_finished()}
        return _Seen({**self.finished, **done}, frozenset(fresh.keys() - done.keys()), max([self.highest, *fresh]))


def _identity(trial: FrozenTrial) -> object:
    return trial.number, trial.state, trial.datetime_start, trial.datetime_complete


class TrialReader:
    """Trials of a study by number, reading only what may have changed.

    Optuna's own caching storage remembers what it reads and writes at once. Ours is read inside transactions that
    may be rolled back, so a read inside one is answered in full and remembered not at all. No lock is held while
    reading: two threads may read the same rows, and the later answer stands.
    """

    def __init__(self, storage: EnlistedStorage) -> None:
        self._storage = storage
        self._seen: dict[int, _Seen] = {}

    def read(self, study_id: int) -> list[FrozenTrial]:
        """Return all trials, ordered by number; they are shared and must not be changed."""
        enlisted = self._storage.enlisted
        seen = self._seen.get(study_id, _Seen())
        fresh = self._fetch(study_id, seen)
        if not seen.followed_by(fresh):
            seen = _Seen()
            fresh = self._fetch(study_id, seen)
        after = seen.with_trials(fresh)
        if not enlisted:
            self._seen[study_id] = after
        running = [fresh[row] for row in after.unfinished]
        return sorted([*after.finished.values(), *running], key=lambda trial: trial.number)

    def _fetch(self, study_id: int, seen: _Seen) -> dict[int, FrozenTrial]:
        anchor = set() if seen.anchor is None else {seen.anchor}
        return self._storage.trials(study_id, again={*seen.unfinished, *anchor}, after=seen.highest)
