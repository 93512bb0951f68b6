"""Stages counted, all in a few statements: for those who look at every study at once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import func, select

from hpo_service.domain.trial.states import TrialState
from hpo_service.domain.trial.tally import Tally
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StageRow, stage_row
from hpo_service.storage.trial.tallies import own_seconds, tally_columns, tally_of_rows
from hpo_service.storage.trial.trial_rows import TrialRow, TrialTable

_trial = schema.trial.c
_stage = schema.stage.c


class StageCounts:
    """Reads across `hpo_stage` and `hpo_trial`. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = TrialTable(database)

    def tallies(self) -> dict[int, Tally]:
        """Count the trials of every stage that do not run, by the stage's id; this reads all trials."""
        statement = (
            select(_trial.stage_id, *tally_columns())
            .where(_trial.state != TrialState.RUNNING)
            .group_by(_trial.stage_id, _trial.state)
        )
        found: dict[int, list[Any]] = defaultdict(list)
        for stage_id, *counted in self._database.connection.execute(statement):
            found[stage_id].append(counted)
        return {stage_id: tally_of_rows(counted) for stage_id, counted in found.items()}

    def extremes(self) -> dict[int, tuple[float, float]]:
        """Return the lowest and the highest value of the complete trials of every stage that has any."""
        statement = (
            select(_trial.stage_id, func.min(_trial.value), func.max(_trial.value))
            .where(_trial.state == TrialState.COMPLETE, _trial.value.is_not(None))
            .group_by(_trial.stage_id)
        )
        return {stage_id: (low, high) for stage_id, low, high in self._database.connection.execute(statement)}

    def running(self) -> list[TrialRow]:
        """Return all trials that run, in the order they came to be."""
        statement = select(schema.trial).where(_trial.state == TrialState.RUNNING)
        return self._rows.all(statement.order_by(_trial.stage_id, _trial.ordinal))

    def own_seconds(self, stage_id: int, *states: TrialState) -> dict[TrialState, list[float]]:
        """Return by state the device seconds that the stage's trials took themselves."""
        statement = select(_trial.state, own_seconds()).where(_trial.stage_id == stage_id, _trial.state.in_(states))
        found: dict[TrialState, list[float]] = {state: [] for state in states}
        for state, seconds in self._database.connection.execute(statement):
            found[TrialState(state)].append(seconds)
        return found

    def stages(self) -> dict[int, list[StageRow]]:
        """Return the stages of every study in the order they were opened, by the study's id."""
        found: dict[int, list[StageRow]] = defaultdict(list)
        for row in self._database.connection.execute(select(schema.stage).order_by(_stage.id)):
            found[row.study_id].append(stage_row(row))
        return found
