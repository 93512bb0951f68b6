"""Reports of trials: one row an evaluation, of which the first that arrives stands."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy import Select, select

from hpo_service.domain.decide.early_exit import look_back
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.curve import Curve, Peers
from hpo_service.domain.trial.planned import CONTROL
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialState
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.dialects.upsert import columns_of, insert_once
from hpo_service.storage.trial.tallies import kept_limits
from hpo_service.storage.trial.trial_rows import TrialRow
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


@dataclass(frozen=True)
class _Read:
    """What was read of a stage: the curves of settled trials, ids of the others, and how many trials there were."""

    peers: Peers = field(default_factory=lambda: Peers([]))
    unsettled: Sequence[int] = ()
    total: int = 0


class ReportStore:
    """Reads and writes `hpo_report`. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read: dict[int, _Read] = {}

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

    def of_many(self, trial_ids: Collection[int]) -> dict[int, ReportRows]:
        """Return the reports of these trials by step, by the trial."""
        found: dict[int, ReportRows] = {}
        for some in batched(trial_ids, IDS_AT_ONCE):
            statement = select(schema.report).where(_report.trial_id.in_(some))
            for row in self._all(statement.order_by(_report.trial_id, _report.step)):
                found.setdefault(row.trial_id, []).append(row)
        return found

    def in_study(self, study_id: int) -> ReportRows:
        """Return the reports of all trials of a study, by trial and step."""
        statement = select(schema.report).join(schema.trial, _trial.id == _report.trial_id)
        return self._all(statement.where(_trial.study_id == study_id).order_by(_report.trial_id, _report.step))

    def last_value(self, trial_id: int) -> float | None:
        """Return the latest finite value that the trial has reported; None where there is none."""
        finite_ones = select(_report.value).where(_report.trial_id == trial_id, _report.value.is_not(None))
        return self._database.connection.scalar(finite_ones.order_by(_report.step.desc()).limit(1))

    def latest(self, trial_ids: Collection[int]) -> dict[int, ReportRow]:
        """Return the latest report with a finite value of each of these trials that has one."""
        other = schema.report.alias()
        last = (
            select(other.c.step)
            .where(other.c.trial_id == _trial.id, other.c.value.is_not(None))
            .order_by(other.c.step.desc())
            .limit(1)
            .scalar_subquery()
        )
        statement = select(schema.report).join(schema.trial, _trial.id == _report.trial_id)
        rows = self._all(statement.where(_trial.id.in_(trial_ids), _report.step == last))
        return {row.trial_id: row for row in rows}

    def marks(self, trial_id: int, direction: Direction) -> Mapping[int, float]:
        """Return what a verdict on a trial looks at, by step: its two latest reports, and its best now and earlier.

        Not-a-number is included. Earlier are both evaluations of `look_back`: however much the trial has reported,
        these are five rows at most.
        """
        columns = (_report.step, _report.value, _report.note)
        own = select(*columns).where(_report.trial_id == trial_id)
        value = _report.value.desc() if direction.maximize else _report.value.asc()
        latest = self._database.connection.execute(own.order_by(_report.step.desc()).limit(2)).all()
        best = own.where(_report.value.is_not(None)).order_by(value, _report.step).limit(1)
        earlier = [best.where(_report.step <= step) for step in look_back(latest[0].step if latest else 0)]
        bests = [row for statement in (best, *earlier) for row in self._database.connection.execute(statement)]
        marks = {step: restored(value, note) for step, value, note in [*bests, *latest]}
        return dict(sorted(marks.items()))

    def curves(self, stage_id: int, but_not: int | None = None) -> Peers:
        """Return what the trials of a stage have reported, as far as it says something of their configurations.

        A trial that repeats another's value has the other's curve, as far as it is finite. Trials that have ended for
        good are read once in a process, so that a comparison costs no more the more trials have ended.

        Args:
            stage_id: of the stage.
            but_not: a trial that is left out and goes on.
        """
        read = self._read.get(stage_id, _Read())
        rows = self._unsettled(stage_id, read)
        states = {trial_id: TrialState(state) for trial_id, _, state, _ in rows}
        tell = {i: copied for i, _, _, copied in rows if i != but_not and Curve(states[i], {}).compares}
        ordinals = {trial_id: ordinal for trial_id, ordinal, _, _ in rows}
        curves = self._curves({trial_id: (states[trial_id], ordinals[trial_id]) for trial_id in tell}, tell)
        settled = {trial_id for trial_id in curves if states[trial_id] in SETTLED}
        read.peers.settled.extend(curves[trial_id] for trial_id in curves if trial_id in settled)
        total = max([read.total, *(ordinal + 1 for _, ordinal, _, _ in rows)])
        self._read[stage_id] = replace(read, total=total, unsettled=sorted(states.keys() - settled))
        return read.peers.beside([curve for trial_id, curve in curves.items() if trial_id not in settled])

    def _unsettled(self, stage_id: int, read: _Read) -> list[tuple[int, int, str, int | None]]:
        """Read id, ordinal, state and twin of the trials that were not settled the last time or came since, by id."""
        # whoever broke a limit is not to be chosen, and stops nobody
        columns = select(_trial.id, _trial.ordinal, _trial.state, _trial.copied_from).where(kept_limits())
        compared = (_trial.stage_id == stage_id, _trial.role != CONTROL)  # the control stops nobody
        new = columns.where(*compared, _trial.ordinal >= read.total)
        known = [columns.where(_trial.id.in_(some)) for some in batched(read.unsettled, IDS_AT_ONCE)]
        found = [tuple(row) for statement in [*known, new] for row in self._database.connection.execute(statement)]
        return sorted(set(found))

    def _curves(
        self, stands: Mapping[int, tuple[TrialState, int]], twins: Mapping[int, int | None]
    ) -> dict[int, Curve]:
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
            state, ordinal = stands[trial_id]
            curves[trial_id] = Curve(state, known, ordinal)
        return curves

    def _all(self, statement: Select[Any]) -> ReportRows:
        return [ReportRow(**columns_of(schema.report, row)) for row in self._database.connection.execute(statement)]


def batched(ids: Iterable[int], size: int) -> Iterator[list[int]]:
    """Cut ids into lists of at most this size."""
    rest = iter(ids)
    while some := list(islice(rest, size)):
        yield some
