"""Trials a page at a time, for those who walk through many."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from hpo_service.domain.trial.states import TrialState
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.trial.trial_rows import TrialRow, TrialTable

_trial = schema.trial.c


@dataclass(frozen=True)
class TrialFilter:
    """Which trials are wanted; what is None or empty excludes none.

    Attributes:
        stage_id: of the stage.
        states: they may be in.
        worker: id of the worker that holds them.
    """

    stage_id: int | None = None
    states: Collection[TrialState] = ()
    worker: str | None = None


class TrialPages:
    """Reads `hpo_trial` in the order of its ids. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._rows = TrialTable(database)

    def page(self, study_id: int, wanted: TrialFilter, *, after: int, limit: int) -> list[TrialRow]:
        """Return up to `limit` trials of a study whose ids come after `after`, in the order they came to be."""
        statement = select(schema.trial).where(_trial.study_id == study_id, _trial.id > after)
        if wanted.stage_id is not None:
            statement = statement.where(_trial.stage_id == wanted.stage_id)
        if wanted.states:
            statement = statement.where(_trial.state.in_(wanted.states))
        if wanted.worker is not None:
            statement = statement.where(_trial.worker_id == wanted.worker)
        return self._rows.all(statement.order_by(_trial.id).limit(limit))
