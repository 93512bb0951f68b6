"""Reports of trials: one row an evaluation, of which the first that arrives stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from sqlalchemy import Select, func, select

from hpo_service.domain.trial.curve import Curve
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialState
from hpo_service.storage import schema
from hpo_service.storage.clock import Now
from hpo_service.storage.database import Database
from hpo_service.storage.trial_rows import TrialRow
from hpo_service.storage.upsert import columns_of, insert_once
from hpo_service.storage.values import finite, lost, plain, restored

_trial = schema.trial.c
_report = schema.report.c


@dataclass(frozen=True)
class ReportRow:
    """One evaluation of a trial; `value` is None where it was not finite, and `note` says what it was."""

    trial_id: int
    step: int
    attempt: int
    fraction: float
    value: float | None
    note: str
    metrics: dict[str, float | None]
    reported_at: float


ReportRows: TypeAlias = list[ReportRow]
Curves: TypeAlias = list[Curve]


class ReportStore:
    """Reads and writes `hpo_report`. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, trial: TrialRow, report: Report) -> bool:
        """Write a report of a trial that the caller holds.

        Returns:
            False where the step was reported before: the first report of a step stands, so that an attempt that
            resumes from a checkpoint cannot rewrite what pruning has already seen.
        """
        values = {
            "trial_id": trial.id,
            "step": report.step,
            "attempt": trial.attempt,
            "fraction": report.fraction,
            "value": finite(report.value),
            "note": lost(report.value),
            "metrics": plain(report.metrics),
            "reported_at": Now(),
        }
        statement = insert_once(self._database, schema.report, values, unique=["trial_id", "step"])
        written = self._database.connection.execute(statement.returning(_report.step))
        return written.one_or_none() is not None

    def of(self, trial_id: int) -> ReportRows:
        """Return the trial's reports by step."""
        return self._all(select(schema.report).where(_report.trial_id == trial_id).order_by(_report.step))

    def in_study(self, study_id: int) -> ReportRows:
        """Return the reports of all trials of a study, by trial and step."""
        statement = select(schema.report).join(schema.trial, _trial.id == _report.trial_id)
        return self._all(statement.where(_trial.study_id == study_id).order_by(_report.trial_id, _report.step))

    def values(self, trial_id: int) -> Mapping[int, float]:
        """Return what the trial has reported by step, not-a-number included."""
        statement = select(_report.step, _report.value, _report.note).where(_report.trial_id == trial_id)
        rows = self._database.connection.execute(statement.order_by(_report.step))
        return {step: restored(value, note) for step, value, note in rows}

    def curves(self, stage_id: int, but_not: int | None = None) -> Curves:
        """Return what the trials of a stage have reported.

        A trial that repeats another's value has the other's curve, as far as it is finite.

        Args:
            stage_id: of the stage.
            but_not: a trial that is left out.
        """
        measured = func.coalesce(_trial.copied_from, _trial.id)
        statement = (
            select(_trial.id, _trial.state, _trial.copied_from, _report.step, _report.value, _report.note)
            .outerjoin(schema.report, _report.trial_id == measured)
            .where(_trial.stage_id == stage_id, _trial.id != (-1 if but_not is None else but_not))
            .order_by(_trial.id, _report.step)
        )
        curves: list[Curve] = []
        rows = self._database.connection.execute(statement)
        for (_, state, copied_from), steps in groupby(rows, key=lambda row: row[:3]):
            reported = [(step, value, note) for *_, step, value, note in steps if step is not None]
            if copied_from is not None:
                reported = [report for report in reported if report[1] is not None]
            curves.append(Curve(TrialState(state), {step: restored(value, note) for step, value, note in reported}))
        return curves

    def _all(self, statement: Select[Any]) -> ReportRows:
        return [ReportRow(**columns_of(schema.report, row)) for row in self._database.connection.execute(statement)]
