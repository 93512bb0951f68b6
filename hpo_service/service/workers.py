"""Workers as the database knows them: signed in, listed, asked to leave, signed off."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version

from hpo_service.domain.decide.placement import Resources
from hpo_service.domain.events import OWN_ACCORD
from hpo_service.errors import DatabaseUnavailableError
from hpo_service.storage.database import Database
from hpo_service.storage.workers import WorkerRow, WorkerState, WorkerStore

__all__ = ["Activity", "WorkerList", "WorkerState", "Workers", "new_worker_id"]

KEPT_WORKERS = 1000
"""Workers that left of their own accord are listed while they are among so many that were seen last."""
KEPT_SECONDS = 7 * 86400.0
"""Workers that are gone are listed for so long."""


@dataclass(frozen=True)
class WorkerList:
    """The workers that registered, in the order they started, at the time `now` of the database's clock.

    Those that left long ago are left out.
    """

    workers: list[WorkerRow]
    now: float


@dataclass(frozen=True)
class Activity:
    """What a worker said that it does, `at` seconds since 1970 by the database's clock."""

    text: str
    at: float


@dataclass(frozen=True)
class Workers:
    """Registers, lists and drains workers."""

    db: Database
    rows: WorkerStore

    def register(self, worker_id: str, has: Resources, job: str | None = None, launch: str | None = None) -> None:
        """Note that this process is a worker now.

        Args:
            worker_id: its id.
            has: what trials may ask of it.
            job: what its scheduler calls it, if it has one.
            launch: which launch it is of, if any.
        """
        given = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(str(number) for number in range(has.gpus or 0))
        devices = given if has.gpus else "cpu"
        with self.db.transaction():
            self.rows.prune(KEPT_SECONDS, KEPT_WORKERS)
            here = platform.node(), os.getpid(), version("hpo-service"), devices
            self.rows.register(worker_id, *here, job, launch, has)

    def retire(self, worker_id: str, reason: str = OWN_ACCORD) -> None:
        """Note that a worker left, and why; a database that is away is told nothing."""
        with contextlib.suppress(DatabaseUnavailableError), self.db.transaction():
            self.rows.stop(worker_id, reason)

    def drain(self, worker_id: str, reason: str, by: str = "") -> None:
        """Have a worker save its trials, give them back and exit; it obeys at its next renewal.

        Raises:
            NotFoundError: there is no such worker.
        """
        with self.db.transaction():
            self.rows.drain(worker_id, reason, by)

    def list_all(self) -> WorkerList:
        """Read which workers there are and were."""
        with self.db.transaction(read_only=True):
            return WorkerList(self.rows.list(), self.db.clock())

    def devices(self, ids: Collection[str]) -> dict[str, str]:
        """Return the devices of some workers, by their ids; those that are not known are left out."""
        with self.db.transaction(read_only=True):
            return self.rows.devices(ids)

    def activities(self) -> dict[str, Activity]:
        """What each active worker said last that it does, by its id: loading, tokenising, measuring, training."""
        with self.db.transaction(read_only=True):
            rows = [row for row in self.rows.list() if row.state is WorkerState.ACTIVE]
        return {row.id: Activity(row.reason, row.seen_at) for row in rows}


def new_worker_id() -> str:
    """Name a worker after its host and process, with a few random letters: process numbers come back."""
    return f"{platform.node().split('.')[0]}-{os.getpid()}-{secrets.token_hex(2)}"
