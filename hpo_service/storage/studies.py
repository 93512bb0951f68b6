"""Studies and their stages: created once, locked by those who decide, closed with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import ValidationError
from sqlalchemy import Row, Select, delete, or_, select, update

from hpo_service.domain.events import OF_STUDY, EventKind
from hpo_service.domain.study.protocol import STAGES, StageRule
from hpo_service.domain.study.search_space import SearchSpace
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.study.spelling import did_you_mean
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import ConflictError, NotFoundError
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.dialects.upsert import columns_of, insert_once
from hpo_service.storage.events import EventStore
from hpo_service.storage.study_document import first_of, known_facts, parsed, unreadable
from hpo_service.storage.values import plain

OPEN = "open"
CLOSED = "closed"
STOPPED = "stopped"
"""Where a stage's plan keeps why its search ended before the budget."""

_PAIRS = select(schema.study, schema.stage).join(schema.stage, schema.stage.c.study_id == schema.study.c.id)


@dataclass(frozen=True)
class StudyRow:
    """A study as stored; `spec` holds only what its file gave, as another version may have understood it."""

    id: int
    name: str
    spec: dict[str, Any]
    state: StudyState
    reason: str
    facts: dict[str, ModelFacts]
    created_at: float
    updated_at: float
    ended_at: float | None

    def specification(self) -> StudySpec:
        """Return what the study's file says.

        Raises:
            UnreadableStudyError: another version wrote it, in a way that this one does not understand.
        """
        try:
            return parsed(json.dumps(self.spec))
        except ValidationError as error:
            raise unreadable(self.name, first_of(error)) from error


@dataclass(frozen=True)
class StageRow:
    """One stage of a study: its budget, its space, and what it plans; times in seconds since 1970."""

    id: int
    study_id: int
    stage: str
    optuna_name: str
    state: str
    trials: int
    gpu_hours: float | None
    space_document: dict[str, Any]
    plan: dict[str, Any]
    reason: str
    opened_at: float
    closed_at: float | None
    unserved: str = ""

    @property
    def space(self) -> SearchSpace:
        """What is searched in it.

        Raises:
            UnreadableStudyError: another version wrote it, in a way that this one does not understand.
        """
        try:
            return SearchSpace.model_validate(self.space_document)
        except ValidationError as error:
            raise unreadable(self._study, first_of(error)) from error

    @property
    def rule(self) -> StageRule:
        """How it works.

        Raises:
            UnreadableStudyError: another version opened it, and this one has no such stage.
        """
        if self.stage not in STAGES:
            raise unreadable(self._study, f"stage: there is no {self.stage}, only {', '.join(STAGES)}")
        return STAGES[self.stage]

    @property
    def _study(self) -> str:
        return self.optuna_name.rpartition("/")[0]

    @property
    def open(self) -> bool:
        """Whether trials may be claimed in it."""
        return self.state == OPEN

    @property
    def closed(self) -> bool:
        """Whether no trial may be claimed in it any more."""
        return self.state == CLOSED


StudyRows: TypeAlias = list[StudyRow]
StageRows: TypeAlias = list[StageRow]
Pairs: TypeAlias = list[tuple[StudyRow, StageRow]]
Named: TypeAlias = list[tuple[int, str]]


class StudyStore:
    """Reads and writes `hpo_study` and `hpo_stage`. Every method belongs inside `database.transaction()`.

    Whoever takes several locks takes them in this order: study, stage, trial. What moves a study or a stage is an
    event; `by` is who asked for it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.events = EventStore(database)

    def create(self, spec: StudySpec, by: str = "") -> StudyRow:
        """Store a new, active study.

        Raises:
            ConflictError: the name is taken.
        """
        values = {
            "name": spec.name,
            "spec": plain(spec.model_dump(mode="json", exclude_unset=True)),
            "state": StudyState.ACTIVE,
            "reason": "created",
            "facts": {},
            "created_at": Now(),
            "updated_at": Now(),
        }
        statement = insert_once(self._database, schema.study, values, unique=["name"])
        row = self._database.connection.execute(statement.returning(schema.study)).one_or_none()
        if row is None:
            raise ConflictError(
                f"study {spec.name!r} exists already: give the new one another name, "
                f"or remove the old one with `hpo-service study delete {spec.name}`"
            )
        study = _study(row)
        self.events.of_study(EventKind.STUDY_CREATED, study.id, study.reason, by=by)
        return study

    def find(self, name: str) -> StudyRow | None:
        """Return the study of that name, or None."""
        return self._one(select(schema.study).where(schema.study.c.name == name))

    def get(self, name: str) -> StudyRow:
        """Return the study of that name.

        Raises:
            NotFoundError: there is none; the message names the nearest.
        """
        row = self.find(name)
        if row is None:
            names = self._database.connection.scalars(select(schema.study.c.name))
            raise NotFoundError(f"there is no study {name!r}{did_you_mean(name, names)}: see `hpo-service study list`")
        return row

    def names(self) -> Sequence[str]:
        """Return the names of all studies, of those too that cannot be read, oldest first."""
        return self._database.connection.scalars(select(schema.study.c.name).order_by(schema.study.c.id)).all()

    def list(self, state: StudyState | None = None) -> StudyRows:
        """Return all studies in a state that this version knows, or those in one state, oldest first."""
        statement = select(schema.study).order_by(schema.study.c.id)
        statement = statement.where(schema.study.c.state.in_([state] if state else list(StudyState)))
        return [_study(row) for row in self._database.connection.execute(statement)]

    def lock(self, study_id: int) -> StudyRow:
        """Return the study, held against others' changes until the transaction ends.

        Raises:
            NotFoundError: it was deleted.
        """
        statement = select(schema.study).where(schema.study.c.id == study_id).with_for_update(key_share=True)
        return _present(self._one(statement), study_id)

    def set_state(self, study_id: int, state: StudyState, reason: str, by: str = "") -> StudyRow:
        """Write the study's state; a final one sets its end, any other clears it."""
        ended = Now() if state.final else None
        self.events.of_study(OF_STUDY[state], study_id, reason, by=by)
        return self._update(study_id, state=state, reason=reason, ended_at=ended)

    def save_facts(self, study_id: int, facts: Mapping[str, ModelFacts]) -> StudyRow:
        """Add what was learned about models, by model name; known names are overwritten."""
        known = self.lock(study_id).facts
        merged = {name: fact.model_dump(mode="json") for name, fact in {**known, **facts}.items()}
        return self._update(study_id, facts=plain(merged))

    def delete(self, study_id: int) -> None:
        """Remove the study with its stages, trials, reports, scores and events; holders find their leases stale."""
        self._database.connection.execute(delete(schema.study).where(schema.study.c.id == study_id))
        self.events.delete(study_id)

    def open_stage(
        self,
        study_id: int,
        stage: str,
        *,
        optuna_name: str,
        trials: int,
        gpu_hours: float | None,
        space: SearchSpace,
        plan: Mapping[str, Any],
        reason: str,
    ) -> StageRow | None:
        """Open a stage, once: None where it exists already.

        Args:
            study_id: of the study.
            stage: its name.
            optuna_name: name of its Optuna study.
            trials: how many trials it may have.
            gpu_hours: device hours it may use, or None for no such limit.
            space: what is searched in it.
            plan: what was decided when it was opened; JSON values.
            reason: why it was opened.
        """
        values = {
            "study_id": study_id,
            "stage": stage,
            "optuna_name": optuna_name,
            "state": OPEN,
            "trials": trials,
            "gpu_hours": gpu_hours,
            "space": plain(space.model_dump(mode="json")),
            "plan": plain(plan),
            "reason": reason,
            "opened_at": Now(),
        }
        statement = insert_once(self._database, schema.stage, values, unique=["study_id", "stage"])
        row = self._database.connection.execute(statement.returning(schema.stage)).one_or_none()
        if row is None:
            return None
        opened = stage_row(row)
        chosen = opened.plan.get("chosen")
        self.events.of_study(EventKind.STAGE_OPENED, study_id, reason, opened.id, trials=trials, chosen=chosen)
        return opened

    def extend_stage(
        self, stage_id: int, *, trials: int, space: SearchSpace, plan: Mapping[str, Any], reason: str
    ) -> None:
        """Give an open stage more trials, which lie in a larger space; the caller has locked its study.

        Args:
            stage_id: of the stage.
            trials: how many more.
            space: what is searched in it now.
            plan: what was decided so far; JSON values.
            reason: why there are more.
        """
        values = {"space": plain(space.model_dump(mode="json")), "plan": plain(plan)}
        more = {**values, "trials": schema.stage.c.trials + trials}
        statement = update(schema.stage).where(schema.stage.c.id == stage_id).values(more)
        study_id = self._database.connection.scalar(statement.returning(schema.stage.c.study_id))
        if study_id is not None:
            self.events.of_study(EventKind.STAGE_EXTENDED, study_id, reason, stage_id, trials=trials)

    def limit_stage(self, stage_id: int, trials: int, why: str = "") -> None:
        """Lower the number of trials the stage may have, and keep why; it is never raised."""
        more = (schema.stage.c.id == stage_id, schema.stage.c.trials > trials)
        plan = self._database.connection.scalar(select(schema.stage.c.plan).where(*more))
        if plan is not None:
            told = {**plan, STOPPED: why} if why else plan
            self._database.connection.execute(update(schema.stage).where(*more).values(trials=trials, plan=told))

    def close_stage(self, stage_id: int, reason: str) -> None:
        """Have no more trials claimed in the stage; closing it again changes nothing."""
        self._move_stage(stage_id, (OPEN, CLOSED), EventKind.STAGE_CLOSED, reason, closed_at=Now())

    def reopen_stage(self, stage_id: int, reason: str) -> None:
        """Have trials claimed in a closed stage again; an open one stays as it is."""
        self._move_stage(stage_id, (CLOSED, OPEN), EventKind.STAGE_REOPENED, reason, closed_at=None)

    def mark_unserved(self, stage_id: int, reason: str) -> bool:
        """Note why no worker that is there can run the stage's trials, or with an empty reason that one can.

        It is an event when it becomes so, and not when it is noted again; tell whether anything changed.
        """
        news = schema.stage.c.unserved == "" if reason else schema.stage.c.unserved != ""
        changed = update(schema.stage).where(schema.stage.c.id == stage_id, news).values(unserved=reason)
        study_id = self._database.connection.scalar(changed.returning(schema.stage.c.study_id))
        if study_id is not None and reason:
            self.events.of_study(EventKind.STAGE_UNSERVED, study_id, reason, stage_id)
        return study_id is not None

    def of_stage(self, stage_id: int) -> tuple[StudyRow, StageRow]:
        """Return a stage and the study it belongs to.

        Raises:
            NotFoundError: the study was deleted.
        """
        row = self._database.connection.execute(_PAIRS.where(schema.stage.c.id == stage_id)).one_or_none()
        if row is None:
            raise _no_stage(stage_id)
        return _study(row), stage_row(row)

    def stages(self, study_id: int) -> StageRows:
        """Return the study's stages in the order they were opened."""
        statement = select(schema.stage).where(schema.stage.c.study_id == study_id).order_by(schema.stage.c.id)
        return [stage_row(row) for row in self._database.connection.execute(statement)]

    def stage(self, study: str, name: str) -> StageRow:
        """Return a study's stage of this name.

        Raises:
            NotFoundError: there is no such study, or the stage has not been opened.
        """
        for row in self.stages(self.get(study).id):
            if row.stage == name:
                return row
        raise NotFoundError(f"stage {study}/{name} has not been opened: see `hpo-service study show {study}`")

    def claimable(self) -> Pairs:
        """Return every open stage of an active study, oldest study first."""
        statement = _PAIRS.where(schema.study.c.state == StudyState.ACTIVE, schema.stage.c.state == OPEN).order_by(
            schema.study.c.id, schema.stage.c.id
        )
        return [(_study(row), stage_row(row)) for row in self._database.connection.execute(statement)]

    def with_expired_leases(self) -> Named:
        """Return id and name of every study that has running trials whose lease is over or missing, oldest first."""
        over = or_(schema.trial.c.lease_until < Now(), schema.trial.c.lease_until.is_(None))
        silent = select(schema.trial.c.study_id).where(schema.trial.c.state == TrialState.RUNNING, over)
        named = select(schema.study.c.id, schema.study.c.name).where(schema.study.c.id.in_(silent))
        rows = self._database.connection.execute(named.order_by(schema.study.c.id))
        return [(row.id, row.name) for row in rows]

    def _one(self, statement: Select[Any]) -> StudyRow | None:
        row = self._database.connection.execute(statement).one_or_none()
        return None if row is None else _study(row)

    def _move_stage(self, stage_id: int, move: tuple[str, str], kind: EventKind, reason: str, **values: Any) -> None:
        before, after = move
        statement = (
            update(schema.stage)
            .where(schema.stage.c.id == stage_id, schema.stage.c.state == before)
            .values(state=after, reason=reason, **values)
            .returning(schema.stage.c.study_id)
        )
        study_id = self._database.connection.scalar(statement)
        if study_id is not None:
            self.events.of_study(kind, study_id, reason, stage_id)

    def _update(self, study_id: int, **values: Any) -> StudyRow:
        statement = (
            update(schema.study)
            .where(schema.study.c.id == study_id)
            .values(**values, updated_at=Now())
            .returning(schema.study)
        )
        row = self._database.connection.execute(statement).one_or_none()
        return _present(None if row is None else _study(row), study_id)


def _present(row: StudyRow | None, study_id: int) -> StudyRow:
    if row is None:
        raise NotFoundError(f"study number {study_id} was deleted: see `hpo-service study list`")
    return row


def _no_stage(stage_id: int) -> NotFoundError:
    return NotFoundError(f"there is no stage {stage_id}: its study was deleted")


def _study(row: Row[Any]) -> StudyRow:
    values = columns_of(schema.study, row)
    if values["state"] not in list(StudyState):
        raise unreadable(row.name, f"state: there is no {values['state']}, only {', '.join(StudyState)}")
    values["state"] = StudyState(values["state"])
    values["facts"] = dict(known_facts(values["facts"]))
    return StudyRow(**values)


def stage_row(row: Row[Any]) -> StageRow:
    """Return a stage as its row has it."""
    values = columns_of(schema.stage, row)
    values["space_document"] = values.pop("space")
    return StageRow(**values)
