"""Workers: who is there, since when, and whether they may claim."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Row, and_, case, delete, func, or_, select, true, update

from hpo_service.domain.decide.placement import NOT_TOLD, Resources
from hpo_service.domain.events import EventKind
from hpo_service.domain.study.spelling import did_you_mean
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import NotFoundError
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.dialects.upsert import columns_of, insert_or_replace
from hpo_service.storage.events import EventStore


class WorkerState(StrEnum):
    """What a worker may do: an active one claims, a draining one ends what it runs; the others are gone."""

    ACTIVE = "active"
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"


@dataclass(frozen=True)
class WorkerRow:
    """A worker as stored; times in seconds since 1970.

    `job` is what its scheduler calls it and `launch` the launch that it is of; None where there is none.
    """

    id: str
    host: str
    pid: int
    version: str
    devices: str
    state: WorkerState
    reason: str
    started_at: float
    seen_at: float
    job: str | None = None
    launch: str | None = None
    resources: Resources = NOT_TOLD


WorkerRows: TypeAlias = list[WorkerRow]
Names: TypeAlias = list[str]
HadByWorkers: TypeAlias = list[Resources]


class WorkerStore:
    """Reads and writes `hpo_worker`. Every method belongs inside `database.transaction()`.

    What moves a worker is an event; `by` is who asked for it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.events = EventStore(database)

    def register(
        self,
        id: str,
        host: str,
        pid: int,
        version: str,
        devices: str,
        job: str | None = None,
        launch: str | None = None,
        resources: Resources = NOT_TOLD,
    ) -> WorkerRow:
        """Write the worker down as active; registering again starts it anew."""
        values = {
            "id": id,
            "host": host,
            "pid": pid,
            "version": version,
            "devices": devices,
            "state": WorkerState.ACTIVE,
            "reason": "registered",
            "started_at": Now(),
            "seen_at": Now(),
            "job": job,
            "launch": launch,
            "resources": resources.document(),
        }
        statement = insert_or_replace(self._database, schema.worker, values, unique=["id"])
        details: dict[str, Any] = {
            "host": host,
            "devices": devices,
            "version": version,
            "labels": list(resources.labels),
        }
        details |= {name: value for name, value in (("job", job), ("launch", launch)) if value is not None}
        self.events.of_worker(EventKind.WORKER_JOINED, id, "registered", **details)
        return _worker(self._database.connection.execute(statement.returning(schema.worker)).one())

    def prune(self, older_than_seconds: float, keep: int) -> int:
        """Remove workers that left or fell silent longer ago, and of those that left all but the latest; count them.

        Those that hold a trial stay, and so do those that others are removing at this moment.
        """
        worker, trial = schema.worker.c, schema.trial.c
        gone = worker.state.in_([WorkerState.STOPPED, WorkerState.LOST])
        latest = select(worker.id).order_by(worker.seen_at.desc()).limit(keep)
        needless = or_(
            worker.seen_at < Now() - older_than_seconds,
            and_(worker.state == WorkerState.STOPPED, worker.id.not_in(latest)),
        )
        holders = select(trial.worker_id).where(trial.state == TrialState.RUNNING, trial.worker_id.is_not(None))
        chosen = select(worker.id).where(gone, needless, worker.id.not_in(holders))
        statement = delete(schema.worker).where(worker.id.in_(chosen.with_for_update(skip_locked=True)))
        return self._database.connection.execute(statement).rowcount

    def beat(self, id: str, activity: str = "") -> WorkerState:
        """Note that the worker is alive and return its state, so that it learns that it was asked to drain.

        `activity` is what it is busy with, for people; it becomes the reason of a worker that is active.

        A worker that was given up comes back by its next beat: its trials are protected by their own leases.

        Raises:
            NotFoundError: it was never registered.
        """
        state, reason = schema.worker.c.state, schema.worker.c.reason
        busy = case((state == WorkerState.ACTIVE, activity or reason), else_=reason)
        row = self._change(id, state != WorkerState.LOST, seen_at=Now(), reason=busy)
        if row is not None:
            return row.state
        again = "heard from again"
        row = self._change(id, state == WorkerState.LOST, seen_at=Now(), state=WorkerState.ACTIVE, reason=again)
        if row is None:
            return self._update(id, seen_at=Now()).state
        self.events.of_worker(EventKind.WORKER_RETURNED, id, again)
        return row.state

    def drain(self, id: str, reason: str, by: str = "") -> WorkerRow:
        """Ask the worker to end what it runs and claim no more; one that has ended stays so.

        Raises:
            NotFoundError: there is no such worker.
        """
        here = schema.worker.c.state.in_([WorkerState.ACTIVE, WorkerState.LOST])
        row = self._change(id, here, state=WorkerState.DRAINING, reason=reason)
        if row is None:
            return self._update(id, reason=schema.worker.c.reason)
        self.events.of_worker(EventKind.WORKER_DRAINING, id, reason, by=by)
        return row

    def stop(self, id: str, reason: str) -> WorkerRow:
        """Write down that the worker has ended.

        Raises:
            NotFoundError: there is no such worker.
        """
        row = self._update(id, state=WorkerState.STOPPED, reason=reason, seen_at=Now())
        self.events.of_worker(EventKind.WORKER_LEFT, id, reason)
        return row

    def list(self) -> WorkerRows:
        """Return all workers, in the order they started."""
        statement = select(schema.worker).order_by(schema.worker.c.started_at, schema.worker.c.id)
        return [_worker(row) for row in self._database.connection.execute(statement)]

    def of_launch(self, launch: str) -> WorkerRows:
        """Return the workers of a launch, in the order they started."""
        workers = select(schema.worker).where(schema.worker.c.launch == launch)
        ordered = workers.order_by(schema.worker.c.started_at, schema.worker.c.id)
        return [_worker(row) for row in self._database.connection.execute(ordered)]

    def devices(self, ids: Collection[str]) -> dict[str, str]:
        """Return the devices of some workers, by their ids."""
        statement = select(schema.worker.c.id, schema.worker.c.devices).where(schema.worker.c.id.in_(ids))
        return {row[0]: row[1] for row in self._database.connection.execute(statement)}

    def active(self) -> int:
        """Count the workers that take trials."""
        of_them = select(func.count()).select_from(schema.worker).where(schema.worker.c.state == WorkerState.ACTIVE)
        return int(self._database.connection.scalar(of_them) or 0)

    def resources(self) -> HadByWorkers:
        """Return what the workers that take trials have."""
        statement = select(schema.worker.c.resources).where(schema.worker.c.state == WorkerState.ACTIVE)
        return [Resources.read(stored) for stored in self._database.connection.scalars(statement)]

    def any_silent(self, older_than_seconds: float) -> bool:
        """Tell whether `mark_lost` would find a worker."""
        here = schema.worker.c.state.in_([WorkerState.ACTIVE, WorkerState.DRAINING])
        silent = schema.worker.c.seen_at < Now() - older_than_seconds
        found = select(schema.worker.c.id).where(here, silent).limit(1)
        return self._database.connection.scalar(found) is not None

    def mark_lost(self, older_than_seconds: float) -> Names:
        """Give up workers that have been silent for longer than that; return their ids.

        One that was draining counts as stopped: should it wake up, it must not claim again.
        """
        state, reason = schema.worker.c.state, f"silent for more than {older_than_seconds:g} seconds"
        statement = (
            update(schema.worker)
            .where(state.in_([WorkerState.ACTIVE, WorkerState.DRAINING]))
            .where(schema.worker.c.seen_at < Now() - older_than_seconds)
            .values(state=case((state == WorkerState.DRAINING, WorkerState.STOPPED), else_=WorkerState.LOST))
            .values(reason=reason)
            .returning(schema.worker.c.id)
        )
        lost = sorted(self._database.connection.scalars(statement))
        for id in lost:
            self.events.of_worker(EventKind.WORKER_LOST, id, reason)
        return lost

    def _change(self, id: str, where: ColumnElement[bool], **values: Any) -> WorkerRow | None:
        """Write columns of the worker where it fits, or return None."""
        statement = update(schema.worker).where(schema.worker.c.id == id, where).values(**values)
        row = self._database.connection.execute(statement.returning(schema.worker)).one_or_none()
        return None if row is None else _worker(row)

    def _update(self, id: str, **values: Any) -> WorkerRow:
        row = self._change(id, true(), **values)
        if row is None:
            names = self._database.connection.scalars(select(schema.worker.c.id))
            raise NotFoundError(f"there is no worker {id!r}{did_you_mean(id, names)}: see `hpo-service worker list`")
        return row


def _worker(row: Row[Any]) -> WorkerRow:
    values = columns_of(schema.worker, row)
    values["state"] = WorkerState(values["state"])
    values["resources"] = Resources.read(values["resources"])
    return WorkerRow(**values)
