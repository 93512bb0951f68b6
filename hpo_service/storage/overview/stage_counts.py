"""How far every stage is, counted by the database."""

from __future__ import annotations

from sqlalchemy import func, select

from hpo_service.domain.trial.states import TrialState
from hpo_service.storage import schema
from hpo_service.storage.database import Database

_trial = schema.trial.c
FINAL = [state for state in TrialState if state.final]


class StageCounts:
    """Counts the trials of all stages. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ended(self) -> dict[int, int]:
        """Return how many trials of each stage have ended, by the stage's id; stages with none are left out."""
        statement = select(_trial.stage_id, func.count()).where(_trial.state.in_(FINAL)).group_by(_trial.stage_id)
        return {row[0]: row[1] for row in self._database.connection.execute(statement)}
