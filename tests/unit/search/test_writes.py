"""What is written in Optuna's tables: whole, inside the caller's transaction, as Optuna itself would write it."""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial
from sqlalchemy import text

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    ParameterValue,
    SearchSpace,
)
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.trial.endings import ENDINGS, Ending
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import ConflictError, DatabaseUnavailableError, LibraryError, NotFoundError, SchemaError
from hpo_service.search import enlisted
from hpo_service.search.enlisted import READ_FROM, EnlistedStorage
from hpo_service.search.policy import SearchPolicy
from hpo_service.search.studies import OptunaStudies
from hpo_service.storage.database import Database

NAME = "s/search"
Undo = Callable[[Database], AbstractContextManager[None]]
SPACE = SearchSpace(
    parameters={
        "rate": FloatParameter(low=1e-5, high=1e-1, log=True),
        "rank": CategoricalParameter(choices=[4, 8, 16]),
        "depth": IntParameter(low=1, high=9, step=2),
        "kind": CategoricalParameter(choices=["a", "b", True, 1]),
    }
)
POINT: dict[str, ParameterValue] = {"rate": 1e-3, "rank": 8, "depth": 3, "kind": "b"}


def stored(database: Database) -> list[FrozenTrial]:
    """Read the study's trials as anyone with plain Optuna would."""
    storage = optuna.storages.RDBStorage(database.url)
    try:
        return optuna.load_study(study_name=NAME, storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


def rows(database: Database) -> dict[str, int]:
    """Count the rows of all tables that belong to studies."""
    with database.transaction():
        return {
            table.name: database.connection.execute(text(f"SELECT count(*) FROM {table.name}")).scalar_one()
            for table in optuna.storages._rdb.models.BaseModel.metadata.sorted_tables
            if table.name != "version_info"
        }


def running(database: Database, studies: OptunaStudies, **values: ParameterValue) -> int:
    with database.transaction():
        return studies.add_running(NAME, {**POINT, **values}, SPACE).optuna_id


def test_a_trial_reads_back_through_plain_optuna(either_database: Database, either_studies: OptunaStudies) -> None:
    with either_database.transaction():
        handle = either_studies.add_running(NAME, POINT, SPACE)
    trial = stored(either_database)[handle.number]
    assert (trial.number, trial._trial_id) == (0, handle.optuna_id)
    assert trial.state is optuna.trial.TrialState.RUNNING
    assert trial.params == POINT
    assert trial.distributions["rate"] == optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)
    assert trial.distributions["depth"] == optuna.distributions.IntDistribution(1, 9, step=2)
    assert trial.datetime_start is not None


def test_a_trial_is_stored_row_for_row_as_optuna_stores_it(database: Database, studies: OptunaStudies) -> None:
    running(database, studies)
    storage = optuna.storages.RDBStorage(database.url)
    study = optuna.load_study(study_name=NAME, storage=storage)
    study.add_trial(study.trials[0])
    storage.engine.dispose()
    with database.transaction():
        parameters = [
            database.connection.execute(
                text(
                    "SELECT param_name, param_value, distribution_json FROM trial_params"
                    " WHERE trial_id = :trial ORDER BY param_name"
                ),
                {"trial": trial_id},
            ).all()
            for trial_id in (1, 2)
        ]
    assert parameters[0] == parameters[1]
    assert len(parameters[0]) == len(POINT)


def test_a_rolled_back_trial_leaves_nothing(
    either_database: Database, either_studies: OptunaStudies, undone: Undo
) -> None:
    before = rows(either_database)
    with undone(either_database):
        handle = either_studies.add_running(NAME, POINT, SPACE)
        either_studies.report(handle.optuna_id, 1, 0.5)
        either_studies.finish(handle.optuna_id, TrialState.COMPLETE, 0.5, -1.0)
    assert rows(either_database) == before
    with either_database.transaction():
        assert either_studies.add_running(NAME, POINT, SPACE).number == 0


def test_numbers_have_no_gaps(either_database: Database, either_studies: OptunaStudies, undone: Undo) -> None:
    numbers = []
    for _ in range(4):
        with either_database.transaction():
            numbers.append(either_studies.add_running(NAME, POINT, SPACE).number)
        with undone(either_database):
            either_studies.add_running(NAME, POINT, SPACE)
    assert numbers == [0, 1, 2, 3]


def test_true_and_one_are_different_choices(database: Database, studies: OptunaStudies) -> None:
    for value in (True, 1):
        running(database, studies, kind=value)
    kinds = [trial.params["kind"] for trial in stored(database)]
    assert [type(kind) for kind in kinds] == [bool, int]


@pytest.mark.parametrize(
    "name,value", [("rate", 0.5), ("rank", 64), ("depth", 11), ("kind", "other"), ("new", False), ("new", 2.5)]
)
def test_planned_values_outside_the_space_are_kept(
    database: Database, studies: OptunaStudies, name: str, value: ParameterValue
) -> None:
    running(database, studies, **{name: value})
    assert stored(database)[0].params[name] == value


def test_complete_keeps_value_and_margin(either_database: Database, either_studies: OptunaStudies) -> None:
    trial_id = running(either_database, either_studies)
    with either_database.transaction():
        either_studies.report(trial_id, 4, 0.7)
        either_studies.finish(trial_id, TrialState.COMPLETE, 0.6, -2.5)
    trial = stored(either_database)[0]
    assert trial.state is optuna.trial.TrialState.COMPLETE
    assert (trial.value, trial.intermediate_values) == (0.6, {4: 0.7})
    assert trial.constraints == {"vram_over_gb": -2.5}
    assert trial.datetime_complete is not None


def test_pruned_takes_the_last_reported_value(either_database: Database, either_studies: OptunaStudies) -> None:
    trial_id = running(either_database, either_studies)
    with either_database.transaction():
        either_studies.report(trial_id, 2, 0.8)
        either_studies.report(trial_id, 1, 0.9)
        either_studies.finish(trial_id, TrialState.PRUNED, None, None)
    trial = stored(either_database)[0]
    assert (trial.state, trial.value) == (optuna.trial.TrialState.PRUNED, 0.8)


def test_pruned_without_a_report_has_no_value(database: Database, studies: OptunaStudies) -> None:
    trial_id = running(database, studies)
    with database.transaction():
        studies.finish(trial_id, TrialState.PRUNED, None, None)
    assert stored(database)[0].value is None


@pytest.mark.parametrize("violation,expected", [(None, 1.0), (3.5, 3.5)])
def test_infeasible_is_pruned_with_its_violation(
    database: Database, studies: OptunaStudies, violation: float | None, expected: float
) -> None:
    trial_id = running(database, studies)
    with database.transaction():
        studies.finish(trial_id, TrialState.INFEASIBLE, None, violation)
    trial = stored(database)[0]
    assert trial.state is optuna.trial.TrialState.PRUNED
    assert trial.constraints == {"vram_over_gb": expected}


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.CANCELLED])
def test_failed_and_cancelled_are_hidden_from_samplers(
    database: Database, studies: OptunaStudies, state: TrialState
) -> None:
    trial_id = running(database, studies)
    with database.transaction():
        studies.finish(trial_id, state, None, None)
    assert stored(database)[0].state is optuna.trial.TrialState.FAIL


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_complete_without_a_number_counts_as_pruned(
    database: Database, studies: OptunaStudies, value: float | None
) -> None:
    trial_id = running(database, studies)
    with database.transaction():
        studies.finish(trial_id, TrialState.COMPLETE, value, math.nan)
    trial = stored(database)[0]
    assert (trial.state, trial.value, trial.constraints) == (optuna.trial.TrialState.PRUNED, None, {})


def test_an_ended_trial_is_left_alone(either_database: Database, either_studies: OptunaStudies) -> None:
    trial_id = running(either_database, either_studies)
    with either_database.transaction():
        either_studies.finish(trial_id, TrialState.COMPLETE, 0.5, None)
    before = stored(either_database)[0]
    with either_database.transaction():
        either_studies.finish(trial_id, TrialState.FAILED, 0.1, 1.0)
    assert stored(either_database)[0] == before


def test_reporting_for_an_ended_trial_is_refused(database: Database, studies: OptunaStudies) -> None:
    trial_id = running(database, studies)
    with database.transaction():
        studies.finish(trial_id, TrialState.COMPLETE, 0.5, None)
    with pytest.raises(ConflictError, match="has ended"), database.transaction():
        studies.report(trial_id, 3, 0.4)


def test_values_that_are_no_numbers_survive(either_database: Database, either_studies: OptunaStudies) -> None:
    values = (math.nan, math.inf, -math.inf)
    for value in values:
        trial_id = running(either_database, either_studies)
        with either_database.transaction():
            either_studies.report(trial_id, 1, value)
            either_studies.finish(trial_id, TrialState.PRUNED, value, None)
    trials = stored(either_database)
    assert [str(trial.intermediate_values[1]) for trial in trials] == [str(value) for value in values]
    assert [trial.value for trial in trials] == [None, None, None]


def test_creating_a_study_twice_changes_nothing(either_database: Database, either_studies: OptunaStudies) -> None:
    before = rows(either_database)
    with either_database.transaction():
        either_studies.create(NAME, "minimize")
    assert rows(either_database) == before
    assert either_studies.exists(NAME)


def test_losing_the_race_to_create_a_study_costs_only_a_savepoint(
    either_database: Database, either_studies: OptunaStudies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OptunaStudies, "exists", lambda self, name: False)
    with either_database.transaction():
        either_studies.create(NAME, "minimize")
        handle = either_studies.add_running(NAME, POINT, SPACE)
    assert handle.number == 0
    assert rows(either_database)["studies"] == 1


def test_a_rolled_back_study_does_not_exist(
    either_database: Database, either_studies: OptunaStudies, undone: Undo
) -> None:
    with undone(either_database):
        either_studies.create("s/verify", "maximize")
        assert either_studies.exists("s/verify")
    assert not either_studies.exists("s/verify")


def test_deleting_a_study_leaves_the_others(either_database: Database, either_studies: OptunaStudies) -> None:
    with either_database.transaction():
        either_studies.create("other", "minimize")
        kept = either_studies.add_running("other", POINT, SPACE)
        either_studies.report(kept.optuna_id, 1, 0.5)
        either_studies.finish(kept.optuna_id, TrialState.COMPLETE, 0.5, -1.0)
    before = rows(either_database)
    for _ in range(3):
        running(either_database, either_studies)
    with either_database.transaction():
        either_studies.create("s/verify", "minimize")
        either_studies.delete(NAME)
        either_studies.delete("s/verify")
        either_studies.delete("never was")
    after = rows(either_database)
    assert after == {**before, "studies": 1, "study_directions": 1}
    assert not either_studies.exists(NAME)


def test_an_unknown_study_is_named(database: Database, studies: OptunaStudies) -> None:
    with pytest.raises(NotFoundError, match="'nope/search'"), database.transaction():
        studies.add_running("nope/search", POINT, SPACE)
    with pytest.raises(NotFoundError, match="'nope/search'"):
        SearchPolicy(database.url, database.session_source).suggest(
            "nope/search", SearchSpec(), SPACE, lambda key: False, 0
        )


def test_a_database_that_is_away_is_said_to_be() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    policy = SearchPolicy(database.url, database.session_source)
    with pytest.raises(DatabaseUnavailableError, match="try again") as caught:
        policy.suggest(NAME, SearchSpec(), SPACE, lambda key: False, 0)
    assert "\n" not in str(caught.value)


def test_creating_the_tables_again_changes_nothing(database: Database) -> None:
    before = rows(database)
    OptunaStudies.create_tables(database.url)
    assert rows(database) == before


def test_braces_in_a_url_are_no_template(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/{{a}}.db"
    OptunaStudies.create_tables(url)
    database = Database(url)
    studies = OptunaStudies(url, database.session_source)
    assert not studies.exists(NAME)


def test_tables_of_another_optuna_are_refused(database: Database) -> None:
    with database.transaction():
        database.connection.execute(text("UPDATE alembic_version SET version_num = 'v1.3.0.a'"))
    with pytest.raises(SchemaError, match="Optuna"):
        OptunaStudies.create_tables(database.url)


def test_the_enlisted_storage_has_every_attribute_of_optunas_own(database: Database) -> None:
    own = optuna.storages.RDBStorage(database.url)
    ours = EnlistedStorage(database.url, database.session_source)
    assert vars(ours).keys() == vars(own).keys()
    assert ours.engine.name == own.engine.name
    own.engine.dispose()


def test_the_storage_knows_whether_it_is_in_a_transaction(either_database: Database) -> None:
    storage = EnlistedStorage(either_database.url, either_database.session_source)
    answers = [storage.enlisted]
    with either_database.transaction():
        answers.append(storage.enlisted)
    answers.append(storage.enlisted)
    assert answers == [False, True, False]


def test_the_best_trial_follows_the_direction(database: Database, studies: OptunaStudies) -> None:
    with database.transaction():
        studies.create("up", "maximize")
        for name in (NAME, "up"):
            for value in (0.5, 0.9, 0.1):
                handle = studies.add_running(name, {**POINT, "rate": value / 10}, SPACE)
                studies.finish(handle.optuna_id, TrialState.COMPLETE, value, None)
            pruned = studies.add_running(name, POINT, SPACE)
            studies.finish(pruned.optuna_id, TrialState.PRUNED, 0.0, None)
    storage = optuna.storages.RDBStorage(database.url)
    least, most = (optuna.load_study(study_name=name, storage=storage).best_trial for name in (NAME, "up"))
    storage.engine.dispose()
    assert (least.number, least.value, least.params["rate"]) == (2, 0.1, 0.1 / 10)
    assert (most.number, most.value) == (1, 0.9)


def test_private_parts_of_optuna_were_read_from_the_release_that_is_installed() -> None:
    assert optuna.__version__.rpartition(".")[0] == READ_FROM, (
        f"hpo_service/search/enlisted.py was written against Optuna {READ_FROM}: compare the private parts it uses "
        f"with those of {optuna.__version__}, then change READ_FROM"
    )


def as_loaded_now() -> None:
    """Execute the file again, under another name, so that nobody else sees its classes twice."""
    spec = importlib.util.spec_from_file_location("enlisted_again", enlisted.__file__)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_an_optuna_whose_private_function_takes_something_else_is_refused_in_one_line(monkeypatch) -> None:
    monkeypatch.setattr(optuna.storages.RDBStorage, "_get_trials", lambda self, study_id, states: [])
    with pytest.raises(LibraryError, match=r"takes no included_trial_ids, trial_id_greater_than\): pip install 'opt"):
        as_loaded_now()


def test_an_optuna_without_one_of_its_private_tables_is_refused_in_one_line(monkeypatch) -> None:
    monkeypatch.delattr("optuna.storages._rdb.models.TrialHeartbeatModel")
    with pytest.raises(LibraryError, match=rf"optuna {optuna.__version__} does not fit .*TrialHeartbeatModel"):
        as_loaded_now()


def test_private_parts_of_optuna_are_used_in_one_file() -> None:
    folder = Path(enlisted.__file__).parent
    found = [path.name for path in sorted(folder.glob("*.py")) if list(private_parts(ast.parse(path.read_text())))]
    assert found == ["enlisted.py"]


def private_parts(tree: ast.AST) -> Iterator[str]:
    """What a file imports of Optuna under a private name, and private attributes of anything but `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (name for name in names if name.startswith("_"))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            yield from [] if own else [node.attr]


@pytest.mark.parametrize("row", ENDINGS.values(), ids=lambda row: row.closed_as)
def test_every_ending_has_a_state_that_optuna_knows(row: Ending) -> None:
    known = {state.name for state in optuna.trial.TrialState if state.is_finished()}
    assert row.optuna is None or row.optuna in known
