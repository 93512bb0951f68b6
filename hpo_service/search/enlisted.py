"""Optuna's SQL storage without a connection of its own: every session joins the caller's transaction."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Protocol

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.states import TrialState as State
from hpo_service.errors import NotFoundError
from hpo_service.search.distributions import internal_value
from hpo_service.search.logs import leave_logging_to_the_application

leave_logging_to_the_application()


ENDINGS: dict[State, TrialState] = {
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    # samplers never see FAIL: a configuration that does not fit the device must not be one
    State.INFEASIBLE: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
    State.CANCELLED: TrialState.FAIL,
}
"""What our final states are called in Optuna's tables."""


class SessionSource(Protocol):
    """Makes SQLAlchemy sessions: bound to the open transaction's connection where there is one, else to the engine."""

    def __call__(self) -> Any:
        """Return a new session."""

    def remove(self) -> None:
        """Do nothing: sessions are not kept per thread."""


class EnlistedStorage(RDBStorage):
    """Optuna's tables, written inside the caller's transaction.

    Nothing is cached: what a transaction wrote and then rolled back must not be remembered. The parent's
    constructor is left out on purpose, because it connects and writes; `vars()` of both are compared in a test.
    """

    def __init__(self, url: str, session_source: SessionSource) -> None:
        self.engine_kwargs = {}
        self.url = url
        self.skip_compatibility_check = True
        self.heartbeat_interval = None
        self.grace_period = None
        self.heartbeat_stale_trial_callback = None
        self.failed_trial_callback = None
        self.scoped_session: Any = session_source
        # Optuna asks its engine for nothing but the dialect's name
        self.engine: Any = SimpleNamespace(name=url.split(":", 1)[0].split("+", 1)[0])
        self._version_manager: Any = None

    @property
    def enlisted(self) -> bool:
        """Whether a session made now joins an open transaction: then it is bound to a connection, not an engine."""
        session = self.scoped_session()
        try:
            return hasattr(session.get_bind(), "in_transaction")
        finally:
            session.close()

    def find_study(self, name: str) -> int | None:
        """Return the study's row, or None where there is none."""
        with _create_scoped_session(self.scoped_session) as session:
            study = models.StudyModel.find_by_name(name, session)
            return None if study is None else int(study.study_id)

    def study_id(self, name: str) -> int:
        """Return the study's row; raises NotFoundError."""
        study_id = self.find_study(name)
        if study_id is None:
            raise _missing(name)
        return study_id

    def delete_study(self, study_id: int) -> None:
        """Delete a study with everything that belongs to it, table by table instead of trial by trial."""
        with _create_scoped_session(self.scoped_session) as session:
            trials = session.query(models.TrialModel.trial_id).filter(models.TrialModel.study_id == study_id)
            for table in _TRIAL_TABLES:
                session.query(table).filter(table.trial_id.in_(trials)).delete(synchronize_session=False)
            for table in _STUDY_TABLES:
                session.query(table).filter(table.study_id == study_id).delete(synchronize_session=False)

    def direction(self, study_id: int) -> Direction:
        """Return whether less or more is better."""
        maximizes = self.get_study_directions(study_id)[0] is StudyDirection.MAXIMIZE
        return Direction.MAXIMIZE if maximizes else Direction.MINIMIZE

    def curve(self, trial_id: int) -> dict[int, float]:
        """Return what one trial has reported, by evaluation: a single cheap query."""
        row_type = models.TrialIntermediateValueModel
        with _create_scoped_session(self.scoped_session) as session:
            rows = session.query(row_type).filter(row_type.trial_id == trial_id).order_by(row_type.step).all()
            return {int(row.step): _reported(row) for row in rows}

    def add(
        self,
        name: str,
        parameters: Mapping[str, tuple[Any, BaseDistribution]],
        attributes: Mapping[str, Any],
    ) -> tuple[int, int]:
        """Insert a running trial with all its parameters and return its row and number.

        The study row stays locked until the transaction ends, so numbers have no gaps. Unlike Optuna's own
        method this one does not sleep and try again in the middle of a transaction that is lost anyway.
        """
        with _create_scoped_session(self.scoped_session) as session:
            study = (
                session.query(models.StudyModel)
                .filter(models.StudyModel.study_name == name)
                .with_for_update()
                .one_or_none()
            )
            if study is None:
                raise _missing(name)
            trial = models.TrialModel(
                study_id=study.study_id, state=TrialState.RUNNING, datetime_start=datetime.now(UTC)
            )
            session.add(trial)
            session.flush()
            trial.number = trial.count_past_trials(session)
            trial_id, number = int(trial.trial_id), int(trial.number)
            session.add_all(_parameter_rows(trial_id, parameters))
            session.add_all(_attribute_rows(trial_id, attributes))
        return trial_id, number

    def settle(
        self, trial_id: int, state: TrialState, value: float | None, constraint: tuple[str, float] | None
    ) -> bool:
        """End a trial; a pruned one without a value takes its last reported one, as Optuna's `tell` does.

        Returns:
            False where it had ended already; then nothing is changed.
        """
        with _create_scoped_session(self.scoped_session) as session:
            trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            if trial.state.is_finished():
                return False
            if value is None and state is TrialState.PRUNED:
                value = _last_reported(session, trial_id)
            if constraint is not None:
                key, amount = constraint
                self._set_trial_attr_without_commit(
                    session, models.TrialSystemAttributeModel, trial_id, f"constraints:{key}", amount
                )
            if value is not None:
                self._set_trial_value_without_commit(session, trial, 0, value)
            trial.state = state
            trial.datetime_complete = datetime.now(UTC)
        return True

    def report(self, trial_id: int, step: int, value: float) -> bool:
        """Store an intermediate value, not-a-number included; returns False where the trial has ended."""
        try:
            self.set_trial_intermediate_value(trial_id, step, value)
        except UpdateFinishedTrialError:
            return False
        return True


_TRIAL_TABLES = (
    models.TrialParamModel,
    models.TrialValueModel,
    models.TrialIntermediateValueModel,
    models.TrialUserAttributeModel,
    models.TrialSystemAttributeModel,
    models.TrialHeartbeatModel,
)
_STUDY_TABLES = (
    models.TrialModel,
    models.StudyDirectionModel,
    models.StudyUserAttributeModel,
    models.StudySystemAttributeModel,
    models.StudyModel,
)


def create_tables(url: str) -> None:
    """Create Optuna's tables and version rows where they are missing; raises RuntimeError where they don't fit."""
    # Optuna fills a template in the URL; braces in a password are none
    storage = RDBStorage(url.replace("{", "{{").replace("}", "}}"))
    storage.remove_session()
    storage.engine.dispose()


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"no trials are kept under the name {name!r}: create the study first")


def _parameter_rows(trial_id: int, parameters: Mapping[str, tuple[Any, BaseDistribution]]) -> list[Any]:
    return [
        models.TrialParamModel(
            trial_id=trial_id,
            param_name=name,
            param_value=internal_value(distribution, value),
            distribution_json=distribution_to_json(distribution),
        )
        for name, (value, distribution) in parameters.items()
    ]


def _attribute_rows(trial_id: int, attributes: Mapping[str, Any]) -> list[Any]:
    # PostgreSQL's json type refuses the bare NaN that Python would write
    return [
        models.TrialUserAttributeModel(trial_id=trial_id, key=key, value_json=json.dumps(value, allow_nan=False))
        for key, value in attributes.items()
    ]


def _reported(row: Any) -> float:
    value = row.stored_repr_to_intermediate_value(row.intermediate_value, row.intermediate_value_type)
    return float(value)


def _last_reported(session: Any, trial_id: int) -> float | None:
    row_type = models.TrialIntermediateValueModel
    rows = session.query(row_type).filter(row_type.trial_id == trial_id)
    row = rows.order_by(row_type.step.desc()).limit(1).one_or_none()
    value = math.nan if row is None else _reported(row)
    return value if math.isfinite(value) else None
