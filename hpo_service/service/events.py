"""What happened to studies, trials and workers, and why: read as a list, or followed as it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hpo_service.storage.database import Database
from hpo_service.storage.events import About, EventRow, EventStore
from hpo_service.storage.studies import StudyStore

__all__ = ["EventRow", "Events", "Follower"]

LAST = 100
"""Events that are listed where no number is asked for."""
LOOK_BACK = 200
"""Who goes on begins so many ids earlier: an event with a lower id may show after one with a higher."""
LATE_SECONDS = 180.0
"""How much later than it happened an event may show: longer than the database lets a transaction idle and wait."""


@dataclass
class Follower:
    """Reads on from where it stopped, each event once.

    Ids are drawn when an event is written and show when its transaction commits: one with a lower id may show after one
    with a higher. So the latest events are read again, as long as one before them may still be missing.
    """

    read: Callable[[int], tuple[list[EventRow], float]]
    after: int = 0
    _seen: set[int] = field(default_factory=set)

    def know(self, ids: set[int]) -> None:
        """Leave these out of what the next call returns."""
        self._seen |= ids

    def next(self) -> list[EventRow]:
        """Return what has happened since the last call, by increasing id; at first, everything after `after`.

        Raises:
            DatabaseUnavailableError: the database is away; the next call goes on.
        """
        rows, now = self.read(self.after)
        new = [row for row in rows if row.id not in self._seen]
        self.after = max([self.after, *(row.id for row in rows if row.at < now - LATE_SECONDS)])
        self._seen = {row.id for row in rows if row.id > self.after}
        return new


@dataclass(frozen=True)
class Events:
    """Reads events; changes nothing."""

    db: Database
    studies: StudyStore
    rows: EventStore

    def list(
        self,
        study: str | None = None,
        trial: tuple[str, int] | None = None,
        worker: str | None = None,
        *,
        after: int = 0,
        last: int | None = LAST,
    ) -> list[EventRow]:
        """Return events by increasing id.

        Args:
            study: only this study's, and its trials'.
            trial: only this trial's of the study: its stage and a number that it has or had.
            worker: only what this worker did, and what happened to it.
            after: only events with a higher id.
            last: at most the last so many; None for all.

        Raises:
            NotFoundError: there is no such study, or the stage was not opened.
        """
        with self.db.transaction(read_only=True):
            return self.rows.list(self._about(study, trial, worker), after, last)

    def follow(
        self,
        study: str | None = None,
        trial: tuple[str, int] | None = None,
        worker: str | None = None,
        *,
        after: int = 0,
    ) -> Follower:
        """Follow the events that `list` would return."""

        def read(after: int) -> tuple[list[EventRow], float]:
            with self.db.transaction(read_only=True):
                return self.rows.list(self._about(study, trial, worker), after), self.db.clock()

        return Follower(read, after)

    def go_on(self, study: str | None = None, *, last: int | None = None) -> Follower:
        """Follow what happens from now on, or what came after an event that was seen last.

        In the second case what happened up to three minutes before is told again: whether it was seen nobody knows.
        """
        if last is None:
            rows = self.list(study, last=LOOK_BACK)
            return self._without(study, max(0, rows[-1].id - LOOK_BACK) if rows else 0, {row.id for row in rows})
        start = max(0, last - LOOK_BACK)
        seen = [row for row in self.list(study, after=start, last=None) if row.id <= last]
        surely = max((row.at for row in seen), default=0.0) - LATE_SECONDS
        return self._without(study, start, {row.id for row in seen if row.at < surely})

    def _without(self, study: str | None, after: int, known: set[int]) -> Follower:
        follower = self.follow(study, after=after)
        follower.know(known)
        return follower

    def _about(self, study: str | None, trial: tuple[str, int] | None, worker: str | None) -> About:
        if study is None:
            return About(worker=worker)
        study_id = self.studies.get(study).id
        if trial is None:
            return About(study_id, worker=worker)
        stage, number = trial
        return About(study_id, self.studies.stage(study, stage).id, number, worker)
