"""Optuna's SQL storage without a connection of its own: every session joins the caller's transaction.

The only file that touches private parts of Optuna; all else uses its public calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo_service.errors import LibraryError, NotFoundError
from hpo_service.search.distributions import internal_value
from hpo_service.search.logs import leave_logging_to_the_application

leave_logging_to_the_application()

READ_FROM = "5.0"
"""The release of Optuna whose private parts were read for this file; a test fails under any other."""


def require_parameters(function: Callable[..., object], names: Collection[str]) -> None:
    """Make sure that a private function of Optuna takes what this file gives it.

    Raises:
        LibraryError: it does not.
    """
    if missing := sorted(set(names) - inspect.signature(function).parameters.keys()):
        raise another_optuna(f"{function.__qualname__} takes no {', '.join(missing)}")


def another_optuna(what: str) -> LibraryError:
    """The error of an Optuna whose private parts are not those that this file was written against."""
    return LibraryError(
        f"optuna {optuna.__version__} does not fit this version, which was written against {READ_FROM} ({what}): "
        f"pip install 'optuna=={READ_FROM}.*'"
    )


try:
    from optuna.storages._rdb import models
    from optuna.storages._rdb.storage import _create_scoped_session

    require_parameters(RDBStorage._get_trials, ("study_id", "states", "included_trial_ids", "trial_id_greater_than"))
    require_parameters(RDBStorage._get_prepared_new_trial, ("study_id", "template_trial", "session"))
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
except (ImportError, AttributeError) as error:
    raise another_optuna(str(error)) from error

TEACHING = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of finished trials that samplers learn from."""


class SessionSource(Protocol):
    """Makes SQLAlchemy sessions: bound to the open transaction's connection where there is one, else to the engine."""

    def __call__(self) -> Any:
        """Return a new session."""

    def remove(self) -> None:
        """Do nothing: sessions are not kept per thread."""

    def translated_errors(self) -> AbstractContextManager[None]:
        """Turn failures of the database, which Optuna hides in errors of its own, into ours."""


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
        try:
            return self.get_study_id_from_name(name)
        except KeyError:
            return None

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

    def trials(self, study_id: int, *, again: set[int], after: int) -> dict[int, FrozenTrial]:
        """Return trials of a study by row: those of certain rows, and all whose row is higher than `after`."""
        found = self._get_trials(study_id, states=None, included_trial_ids=again, trial_id_greater_than=after)
        return {trial._trial_id: trial for trial in found}

    def window(self, study_id: int, *, latest: int, best: int) -> tuple[int, set[int]]:
        """Return from which row on a study is read whole, and which rows up to it are read too.

        Returns:
            The row before the `latest` last trials that teach (-1 where there are no more than those), and of the rows
            up to it the `best` complete trials with the best values and all that have not finished.
        """
        trial, value = models.TrialModel, models.TrialValueModel
        order = value.value.desc() if self.maximizes(study_id) else value.value.asc()
        with _create_scoped_session(self.scoped_session) as session:
            rows = session.query(trial.trial_id).filter(trial.study_id == study_id)
            teaching = rows.filter(trial.state.in_(TEACHING)).order_by(trial.trial_id.desc())
            before = teaching.offset(latest).limit(1).scalar()
            if before is None:
                return -1, set()
            older = rows.filter(trial.trial_id <= before)
            valued = older.filter(trial.state == TrialState.COMPLETE).join(value, value.trial_id == trial.trial_id)
            valued = valued.filter(value.objective == 0)
            chosen = valued.order_by(order, trial.trial_id).limit(best)
            going = older.filter(trial.state.in_([TrialState.RUNNING, TrialState.WAITING]))
            return int(before), {row for (row,) in [*chosen, *going]}

    def maximizes(self, study_id: int) -> bool:
        """Whether more is better in a study, of several goals in the first."""
        return self.get_study_directions(study_id)[0] is StudyDirection.MAXIMIZE

    def add(self, name: str, parameters: Mapping[str, tuple[Any, BaseDistribution]]) -> tuple[int, int]:
        """Insert a running trial with all its parameters and return its row and number.

        The study row stays locked until the transaction ends, so numbers have no gaps. Optuna's own
        `create_new_trial` does not serve: it sleeps and tries again in the middle of a transaction that is lost
        anyway, refuses planned values outside the space, and takes True for 1.
        """
        with _create_scoped_session(self.scoped_session) as session:
            named = session.query(models.StudyModel).filter(models.StudyModel.study_name == name)
            study = named.with_for_update().one_or_none()
            if study is None:
                raise _missing(name)
            trial = self._get_prepared_new_trial(int(study.study_id), None, session)
            trial_id, number = int(trial.trial_id), int(trial.number)
            session.add_all(_parameter_rows(trial_id, parameters))
        return trial_id, number

    def trial_ids(self, study_id: int, numbers: Collection[int]) -> dict[int, int]:
        """Return the rows of trials of a study by their numbers."""
        table = models.TrialModel
        with _create_scoped_session(self.scoped_session) as session:
            rows = session.query(table.number, table.trial_id).filter(table.study_id == study_id)
            return {int(number): int(row) for number, row in rows.filter(table.number.in_(numbers))}

    def add_intermediate_values(self, trial_id: int, curve: Mapping[int, float]) -> None:
        """Insert intermediate values by step in one statement; Optuna's own call takes four for each of them."""
        table = models.TrialIntermediateValueModel
        stored = {step: table.intermediate_value_to_stored_repr(value) for step, value in curve.items()}
        rows = [
            {"trial_id": trial_id, "step": step, "intermediate_value": value, "intermediate_value_type": kind}
            for step, (value, kind) in stored.items()
        ]
        if rows:
            with _create_scoped_session(self.scoped_session) as session:
                session.execute(table.__table__.insert(), rows)

    def constrain(self, trial_id: int, name: str, amount: float) -> None:
        """Set a constraint of a trial, violated where it is above 0; `Trial.set_constraint` needs a live trial.

        Raises:
            UpdateFinishedTrialError: the trial has ended.
        """
        self.set_trial_system_attr(trial_id, f"constraints:{name}", amount)


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
