"""How much there is of everything, counted by the database: a few rows, however large it grows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Table, func, select

from hpo_service.domain.trial.states import TrialState
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now


@dataclass(frozen=True)
class Counts:
    """Studies, trials and workers by state; leases that are over; seconds of devices and how many trials lost them."""

    studies: dict[str, int]
    trials: dict[str, int]
    workers: dict[str, int]
    expired_leases: int
    device_seconds: float
    losses: int
    errors: int


class CountStore:
    """Reads sums over our tables. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Counts:
        """Count everything."""
        trial = schema.trial.c
        sums = select(func.sum(trial.device_seconds), func.sum(trial.losses), func.sum(trial.errors))
        seconds, losses, errors = self._database.connection.execute(sums).one()
        over = select(func.count()).select_from(schema.trial)
        expired = over.where(trial.state == TrialState.RUNNING, trial.lease_until < Now())
        return Counts(
            studies=self._by(schema.study, schema.study.c.state),
            trials=self._by(schema.trial, trial.state),
            workers=self._by(schema.worker, schema.worker.c.state),
            expired_leases=int(self._database.connection.scalar(expired) or 0),
            device_seconds=float(seconds or 0.0),
            losses=int(losses or 0),
            errors=int(errors or 0),
        )

    def _by(self, table: Table, state: Column[str]) -> dict[str, int]:
        statement = select(state, func.count()).select_from(table).group_by(state)
        return {row[0]: row[1] for row in self._database.connection.execute(statement)}
