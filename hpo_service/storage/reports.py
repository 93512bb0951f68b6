"""Reports of trials: one row an evaluation, of which the first that arrives stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy import Select, select

from hpo_service.domain.trial.curve import Curve
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialState
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.sql.clock import Now
from hpo_service.storage.sql.upsert import columns_of, insert_once
from hpo_service.storage.trial_rows import TrialRow
from hpo_service.storage.values import finite, lost, plain, restored

SETTLED = frozenset({TrialState.COMPLETE, TrialState.PRUNED, TrialState.INFEASIBLE})
"""States that no trial leaves again, not even when a person asks for it: what it reported stays as it is."""
IDS_AT_ONCE = 500
"""Ids in one statement; SQLite and PostgreSQL bound how many it may have."""

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
        self._settled: dict[int, Curve] = {}

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

        A trial that repeats another's value has the other's curve, as far as it is finite. Curves of trials that have
        ended for good are read once in a process, so that a comparison costs no more the more trials have ended.

        Args:
            stage_id: of the stage.
            but_not: a trial that is left out.
        """
        statement = select(_trial.id, _trial.state, _trial.copied_from).where(
            _trial.stage_id == stage_id, _trial.id != (-1 if but_not is None else but_not)
        )
        rows = self._database.connection.execute(statement.order_by(_trial.id)).all()
        states = {trial_id: TrialState(state) for trial_id, state, _ in rows}
        missing = {trial_id: copied for trial_id, _, copied in rows if trial_id not in self._settled}
        read = self._curves({trial_id: states[trial_id] for trial_id in missing}, missing)
        curves = {**{trial_id: self._settled[trial_id] for trial_id in states if trial_id in self._settled}, **read}
        self._settled |= {trial_id: curve for trial_id, curve in read.items() if curve.state in SETTLED}
        return [curves[trial_id] for trial_id in states]

    def _curves(self, states: Mapping[int, TrialState], twins: Mapping[int, int | None]) -> dict[int, Curve]:
        """Read the curves of trials by id; one that repeats another's value has its twin's."""
        measured = {twin if twin is not None else trial_id for trial_id, twin in twins.items()}
        values: dict[int, list[tuple[int, float | None, str]]] = {}
        columns = (_report.trial_id, _report.step, _report.value, _report.note)
        for some in batched(sorted(measured), IDS_AT_ONCE):
            statement = select(*columns).where(_report.trial_id.in_(some)).order_by(_report.trial_id, _report.step)
            for trial_id, *reported in self._database.connection.execute(statement):
                values.setdefault(trial_id, []).append((reported[0], reported[1], reported[2]))
        curves = {}
        for trial_id, twin in twins.items():
            own = values.get(trial_id if twin is None else twin, [])
            known = {step: restored(value, note) for step, value, note in own if twin is None or value is not None}
            curves[trial_id] = Curve(states[trial_id], known)
        return curves

    def _all(self, statement: Select[Any]) -> ReportRows:
        return [ReportRow(**columns_of(schema.report, row)) for row in self._database.connection.execute(statement)]


def batched(ids: Iterable[int], size: int) -> Iterator[list[int]]:
    """Cut ids into lists of at most this size."""
    rest = iter(ids)
    while some := list(islice(rest, size)):
        yield some
