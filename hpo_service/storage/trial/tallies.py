"""What is counted of a stage's trials without loading them; an answer's cost does not grow with what has ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, and_, case, func, literal, select, union_all

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.states import TrialEvent, TrialState, next_state
from hpo_service.domain.trial.tally import Tally
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.trial.trial_rows import TrialRow, TrialRows, TrialTable

OPEN = [state for state in TrialState if not state.final]
FINAL = [state for state in TrialState if state.final]
REVIVABLE = [state for state in FINAL if next_state(state, TrialEvent.RETRY) is not None]
"""States that a trial has ended in and may leave again."""
TYPICAL = 100
"""Of so many of the latest complete trials the typical duration is taken."""

_trial = schema.trial.c

Seconds: TypeAlias = list[float]


@dataclass(frozen=True)
class Reach:
    """How far the leases of a stage's running trials reach, in seconds from now; a missing one reaches nowhere."""

    shortest: float
    longest: float


class TallyStore:
    """Counts rows of `hpo_trial`. Every method belongs inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = TrialTable(database)

    def total(self, stage_id: int) -> int:
        """Return how many trials the stage has, whatever became of them: ordinals have no gaps."""
        statement = select(func.max(_trial.ordinal)).where(_trial.stage_id == stage_id)
        highest = self._database.connection.scalar(statement)
        return 0 if highest is None else int(highest) + 1

    def keys(self, stage_id: int) -> set[str]:
        """Return the configurations that the stage's trials have, by their canonical keys."""
        statement = select(_trial.dedupe_key).where(_trial.stage_id == stage_id, _trial.dedupe_key.is_not(None))
        return set(self._database.connection.scalars(statement))

    def has(self, stage_id: int, *states: TrialState, at_least: int = 1) -> bool:
        """Tell whether so many of the stage's trials are in one of these states."""
        some = select(_trial.id).where(_trial.stage_id == stage_id, _trial.state.in_(states)).limit(at_least)
        counted = select(func.count()).select_from(some.subquery())
        return (self._database.connection.scalar(counted) or 0) >= at_least

    def revivable(self, stage_id: int) -> int:
        """Count the trials that have ended and may still be tried again."""
        statement = select(func.count()).where(_trial.stage_id == stage_id, _trial.state.in_(REVIVABLE))
        return self._database.connection.scalar(statement) or 0

    def of_ended(self, stage_id: int, but_not: Collection[int] = ()) -> Tally:
        """Count the stage's trials that have ended, but not those of certain ids; this reads all of them."""
        statement = (
            select(*tally_columns())
            .where(_trial.stage_id == stage_id, _trial.state.in_(FINAL), _trial.id.not_in(but_not))
            .group_by(_trial.state)
        )
        return tally_of_rows(self._database.connection.execute(statement))

    def own_seconds(self, stage_id: int, state: TrialState, but_not: Collection[int] = ()) -> Seconds:
        """Return what each trial in a state took itself, but not those of certain ids; this reads all of them."""
        statement = select(own_seconds()).where(_trial.stage_id == stage_id, _trial.state == state)
        return list(self._database.connection.scalars(statement.where(_trial.id.not_in(but_not))))

    def numbered(self, stage_id: int, numbers: Collection[int]) -> list[int]:
        """Return the ids of the stage's trials that have these numbers."""
        statement = select(_trial.id).where(_trial.stage_id == stage_id, _trial.number.in_(numbers))
        return list(self._database.connection.scalars(statement))

    def best(self, stage_id: int, direction: Direction) -> TrialRow | None:
        """Return the complete trial with the best value that kept all limits, the first of equals; looks at all."""
        value = _trial.value.desc() if direction.maximize else _trial.value.asc()
        statement = (
            select(schema.trial)
            .where(_trial.stage_id == stage_id, _trial.state == TrialState.COMPLETE, _trial.value.is_not(None))
            .where(kept_limits())
            .order_by(value, _trial.ordinal)
            .limit(1)
        )
        return self._rows.find(statement)

    def complete(self, stage_id: int) -> list[tuple[int, float | None, RunFacts]]:
        """Return id, value and facts of the stage's complete trials; this reads all of them."""
        statement = select(_trial.id, _trial.value, _trial.facts)
        statement = statement.where(_trial.stage_id == stage_id, _trial.state == TrialState.COMPLETE)
        return [(i, value, RunFacts.of(facts)) for i, value, facts in self._database.connection.execute(statement)]

    def open_or_new(self, stage_id: int, ids: Collection[int], since: int) -> TrialRows:
        """Return the stage's trials that have not ended, those of certain ids, and all from an ordinal on.

        One statement, so that all are seen at the same moment.
        """
        wanted = union_all(
            select(_trial.id).where(_trial.stage_id == stage_id, _trial.state.in_(OPEN)),
            select(_trial.id).where(_trial.id.in_(ids)),
            select(_trial.id).where(_trial.stage_id == stage_id, _trial.ordinal >= since),
        )
        return self._rows.all(select(schema.trial).where(_trial.id.in_(wanted)).order_by(_trial.ordinal))

    def run_seconds(self, stage_id: int) -> Seconds:
        """Return the device seconds of the latest complete trials, as far as they were run and not copied."""
        latest = (
            select(_trial.device_seconds, _trial.copied_from)
            .where(_trial.stage_id == stage_id, _trial.state == TrialState.COMPLETE)
            .order_by(_trial.ordinal.desc())
            .limit(TYPICAL)
        )
        return [seconds for seconds, copied in self._database.connection.execute(latest) if copied is None]

    def to_run(self, stage_id: int, *states: TrialState) -> float:
        """Return how many whole runs the trials in these states still are; by default those that have not ended."""
        left = func.sum(literal(1.0) - _trial.progress)
        statement = select(left).where(_trial.stage_id == stage_id, _trial.state.in_(states or OPEN))
        return float(self._database.connection.scalar(statement) or 0.0)

    def leases(self) -> dict[int, Reach]:
        """Return how far the leases of running trials reach, by stage."""
        until: ColumnElement[float] = func.coalesce(_trial.lease_until, 0.0) - Now()
        statement = (
            select(_trial.stage_id, func.min(until), func.max(until))
            .where(_trial.state == TrialState.RUNNING)
            .group_by(_trial.stage_id)
        )
        return {
            stage: Reach(shortest, longest) for stage, shortest, longest in self._database.connection.execute(statement)
        }


def kept_limits() -> ColumnElement[bool]:
    """Whether a trial broke none of its study's limits, as `RunFacts.constraints` has it."""
    unbroken: ColumnElement[bool] = _trial.facts["constraint_violated"].as_string().is_(None)
    return unbroken


def tally_columns() -> tuple[ColumnElement[Any], ...]:
    """Columns of a statement that groups trials by state, of which `tally_of_rows` makes a tally."""
    own = own_seconds()
    timed = func.sum(case((own > 0, 1), else_=0))
    return _trial.state, func.count(), timed, func.sum(_trial.device_seconds), func.sum(own)


def tally_of_rows(rows: Iterable[Any]) -> Tally:
    """Return the tally that rows of `tally_columns` are."""
    read = [(TrialState(state), *numbers) for state, *numbers in rows]
    return Tally(
        {state: trials for state, trials, *_ in read},
        {state: timed for state, _, timed, *_ in read},
        {state: seconds for state, _, _, seconds, _ in read},
        {state: own for state, *_, own in read},
    )


def own_seconds() -> ColumnElement[float]:
    """Device seconds without what other trials use too, as `TrialView.own_seconds` has them."""
    timed = _trial.facts["device_seconds"].as_float()
    setup = func.coalesce(_trial.facts["seconds_setup"].as_float(), 0.0)
    ranks = func.coalesce(_trial.facts["ranks"].as_float(), 1.0)
    before = case((and_(_trial.attempt == 1, _trial.device_seconds > timed), _trial.device_seconds - timed), else_=0.0)
    own = _trial.device_seconds - setup * ranks - before
    return case((timed.is_(None), _trial.device_seconds), (own < 0, 0.0), else_=own)
