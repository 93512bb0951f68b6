"""Launches: workers that somebody had started, by which launcher, as which jobs, and how many are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from sqlalchemy import Row, Select, insert, select, update

from hpo_service.domain.events import EventKind
from hpo_service.domain.study.spelling import did_you_mean
from hpo_service.errors import NotFoundError
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.dialects.upsert import columns_of
from hpo_service.storage.events import EventStore
from hpo_service.storage.values import plain

_launch = schema.launch.c


class LaunchState(StrEnum):
    """Whether workers of a launch are wanted: of an active one they are."""

    ACTIVE = "active"
    ENDED = "ended"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class LaunchRow:
    """A launch as stored; times in seconds since 1970.

    Attributes:
        id: its name.
        study_id: the study that its workers serve.
        study: that study's name.
        launcher: which one started it, a key of the table of launchers.
        state: whether its workers are wanted.
        reason: why that is so.
        workers: how many are wanted, at most.
        options: what the launcher was asked for, as plain data; no secrets.
        jobs: what was submitted, in that order, as the scheduler calls it.
        output: folder of results.
        host: machine on which it was launched.
        by: who launched it.
        created_at: when.
        seen_at: last sign of life of the process that keeps it, None where none does.
        ended_at: when it ended or was cancelled.
    """

    id: str
    study_id: int
    study: str
    launcher: str
    state: LaunchState
    reason: str
    workers: int
    options: dict[str, Any]
    jobs: list[str]
    output: str
    host: str
    by: str
    created_at: float
    seen_at: float | None
    ended_at: float | None


LaunchRows: TypeAlias = list[LaunchRow]


class LaunchStore:
    """Reads and writes `hpo_launch`. Every method belongs inside `database.transaction()`.

    What moves a launch is an event of its study.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.events = EventStore(database)

    def add(
        self,
        id: str,
        study_id: int,
        launcher: str,
        workers: int,
        options: Mapping[str, Any],
        *,
        output: str,
        host: str,
        by: str,
    ) -> LaunchRow:
        """Write a launch down, before anything of it is submitted."""
        values = {
            "id": id,
            "study_id": study_id,
            "launcher": launcher,
            "state": LaunchState.ACTIVE,
            "reason": "launched",
            "workers": workers,
            "options": plain(options),
            "jobs": [],
            "output": output,
            "host": host,
            "by": by,
            "created_at": Now(),
        }
        self._database.connection.execute(insert(schema.launch).values(**values))
        reason = f"{workers} workers by the {launcher} launcher"
        self.events.of_study(EventKind.LAUNCH_STARTED, study_id, reason, launch=id, by=by)
        return self.get(id)

    def get(self, id: str) -> LaunchRow:
        """Return one.

        Raises:
            NotFoundError: there is none of this id.
        """
        row = self._database.connection.execute(_rows().where(_launch.id == id)).one_or_none()
        if row is None:
            ids = self._database.connection.scalars(select(_launch.id))
            raise NotFoundError(f"there is no launch {id!r}{did_you_mean(id, ids)}: see `hpo-service launch status`")
        return _row(row)

    def list(self, study_id: int | None = None) -> LaunchRows:
        """Return all launches, or those of one study, in the order they were made."""
        wanted = _rows() if study_id is None else _rows().where(_launch.study_id == study_id)
        return [_row(row) for row in self._database.connection.execute(wanted.order_by(_launch.created_at, _launch.id))]

    def add_jobs(self, id: str, jobs: Sequence[str]) -> None:
        """Note what else was submitted for a launch."""
        held = self._database.connection.execute(select(_launch.jobs).where(_launch.id == id).with_for_update())
        self._change(id, jobs=[*held.scalar_one(), *jobs])

    def scale(self, id: str, workers: int, by: str) -> LaunchRow:
        """Want another number of workers."""
        self._change(id, workers=workers)
        row = self.get(id)
        self.events.of_study(EventKind.LAUNCH_SCALED, row.study_id, f"{workers} workers wanted", launch=id, by=by)
        return row

    def end(self, id: str, state: LaunchState, reason: str, by: str = "") -> bool:
        """Want no more workers; tell whether that is news."""
        of_it = update(schema.launch).where(_launch.id == id, _launch.state == LaunchState.ACTIVE)
        ended = self._database.connection.execute(of_it.values(state=state, reason=reason, ended_at=Now()))
        if ended.rowcount:
            self.events.of_study(EventKind.LAUNCH_ENDED, self.get(id).study_id, reason, launch=id, by=by)
        return bool(ended.rowcount)

    def beat(self, id: str) -> LaunchRow:
        """Note that the process which keeps a launch is alive; return what is wanted of it."""
        self._change(id, seen_at=Now())
        return self.get(id)

    def _change(self, id: str, **values: Any) -> None:
        self._database.connection.execute(update(schema.launch).where(_launch.id == id).values(**values))


def _rows() -> Select[Any]:
    return select(schema.launch, schema.study.c.name).join(schema.study, schema.study.c.id == _launch.study_id)


def _row(row: Row[Any]) -> LaunchRow:
    values = columns_of(schema.launch, row)
    values["state"] = LaunchState(values["state"])
    return LaunchRow(**values, study=row._mapping[schema.study.c.name])
