"""Reading the trials a sampler learns from again and again: no finished one twice, and no more than it can use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from optuna.trial import FrozenTrial, TrialState

from hpo_service.search.enlisted import TEACHING, EnlistedStorage

LATEST = 400
"""Finished trials that are remembered at least. A proposal's cost grows with them, and old ones hardly count: of n
trials TPE gives the oldest the weight 1/n."""
BEST = 25
"""Earlier complete trials that are remembered besides: TPE's good ones are never more than 25."""


@dataclass(frozen=True)
class _Seen:
    """What earlier reads found: finished trials by row, the rows still open, and the highest row of all."""

    finished: Mapping[int, FrozenTrial] = field(default_factory=dict)
    unfinished: frozenset[int] = frozenset()
    highest: int = -1
    maximizes: bool = False

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
        unfinished = frozenset(fresh.keys() - done.keys())
        return replace(
            self, finished={**self.finished, **done}, unfinished=unfinished, highest=max([self.highest, *fresh])
        )

    def bounded(self, latest: int) -> _Seen:
        """Forget what samplers can do without; the same trials stay, whenever and in however many steps they came."""
        teaching = sorted(row for row, trial in self.finished.items() if trial.state in TEACHING)
        if len(teaching) <= latest:
            return self
        first = teaching[-latest]
        older = [row for row in teaching if row < first and self.finished[row].state is TrialState.COMPLETE]
        kept = set(sorted(older, key=self._badness)[:BEST])
        return replace(self, finished={r: trial for r, trial in self.finished.items() if r >= first or r in kept})

    def _badness(self, row: int) -> float:
        value = float(self.finished[row].values[0])
        return -value if self.maximizes else value


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

    def read(self, study_id: int, latest: int = LATEST) -> list[FrozenTrial]:
        """Return the trials that count, ordered by number; they are shared and must not be changed.

        All that have not finished, the `latest` that samplers learn from, and the best of the earlier ones.
        """
        enlisted = self._storage.enlisted
        seen = self._seen.get(study_id)
        fresh = self._news(study_id, seen) if seen is not None else {}
        if seen is None or not seen.followed_by(fresh):
            seen = _Seen(maximizes=self._storage.maximizes(study_id))
            before, older = self._storage.window(study_id, latest=latest, best=BEST)
            fresh = self._storage.trials(study_id, again=older, after=before)
        after = seen.with_trials(fresh).bounded(latest)
        if not enlisted:
            self._seen[study_id] = after
        running = [fresh[row] for row in after.unfinished]
        return sorted([*after.finished.values(), *running], key=lambda trial: trial.number)

    def _news(self, study_id: int, seen: _Seen) -> dict[int, FrozenTrial]:
        anchor = set() if seen.anchor is None else {seen.anchor}
        return self._storage.trials(study_id, again={*seen.unfinished, *anchor}, after=seen.highest)
