"""Reading a study's trials again and again without loading the finished ones twice."""

from __future__ import annotations

from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from hpo_service.search.enlisted import EnlistedStorage


@dataclass(frozen=True)
class _Seen:
    """What earlier reads found: finished trials by row, the rows still open, and the highest row of all."""

    finished: dict[int, FrozenTrial] = field(default_factory=dict)
    unfinished: frozenset[int] = frozenset()
    highest: int = -1

    @property
    def anchor(self) -> FrozenTrial | None:
        """The newest finished trial, read again each time to notice that the study was deleted and made anew."""
        return self.finished[max(self.finished)] if self.finished else None

    def followed_by(self, fresh: list[FrozenTrial]) -> bool:
        """Whether a later read shows the same study: all rows that must still be there are."""
        by_id = {trial._trial_id: trial for trial in fresh}
        if not self.unfinished <= by_id.keys():
            return False
        anchor = self.anchor
        if anchor is None:
            return True
        again = by_id.get(anchor._trial_id)
        return again is not None and _identity(again) == _identity(anchor)

    def with_trials(self, fresh: list[FrozenTrial]) -> _Seen:
        done = {trial._trial_id: trial for trial in fresh if trial.state.is_finished()}
        running = frozenset(trial._trial_id for trial in fresh if not trial.state.is_finished())
        highest = max([self.highest, *(trial._trial_id for trial in fresh)])
        return _Seen({**self.finished, **done}, running, highest)


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
        running = [trial for trial in fresh if not trial.state.is_finished()]
        return sorted([*after.finished.values(), *running], key=lambda trial: trial.number)

    def _fetch(self, study_id: int, seen: _Seen) -> list[FrozenTrial]:
        anchor = seen.anchor
        again = set(seen.unfinished) | ({anchor._trial_id} if anchor is not None else set())
        return self._storage._get_trials(
            study_id, states=None, included_trial_ids=again, trial_id_greater_than=seen.highest
        )

    def forget(self, study_id: int) -> None:
        """Drop what was read of a study."""
        self._seen.pop(study_id, None)
