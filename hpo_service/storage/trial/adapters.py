"""Where the adapters of trials are kept, and which of them are kept no longer."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update

from hpo_service.domain.study.direction import Direction
from hpo_service.storage import schema
from hpo_service.storage.database import Database

AT_ONCE = 50
"""Adapters that one look finds at most."""

_trial = schema.trial.c


@dataclass(frozen=True)
class KeptAdapter:
    """A trial's adapter: the folder, or the URL in the store."""

    trial_id: int
    adapter: str


class AdapterStore:
    """Reads and writes where adapters are. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def surplus(self, stage_id: int, direction: Direction, keep: int) -> list[KeptAdapter]:
        """Return the adapters of a stage's trials beyond the best so many; those that were planned to be kept stay."""
        value = _trial.value.desc() if direction.maximize else _trial.value.asc()
        statement = (
            select(_trial.id, _trial.adapter)
            .where(_trial.stage_id == stage_id, _trial.adapter.is_not(None), _trial.keep_adapter.is_(False))
            .order_by(value, _trial.ordinal)
            .offset(keep)
            .limit(AT_ONCE)
        )
        return [KeptAdapter(*row) for row in self._database.connection.execute(statement)]

    def forget(self, kept: KeptAdapter) -> None:
        """Note that an adapter is kept no longer; one that was saved anew meanwhile is."""
        known = (_trial.id == kept.trial_id, _trial.adapter == kept.adapter)
        self._database.connection.execute(update(schema.trial).where(*known).values(adapter=None))
