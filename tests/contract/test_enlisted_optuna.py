"""The contract between our transaction and Optuna's writes: both are kept or neither is."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial
from sqlalchemy import text

from hpo_service.domain.trial.states import TrialEvent, TrialState


class BoomError(Exception):
    """Whatever goes wrong between two writes."""


@pytest.fixture
def name(world, optuna):
    with world.db.transaction():
        optuna.create(world.stage.optuna_name, "minimize")
    return world.stage.optuna_name


@pytest.fixture
def ask(world, name):
    def ask(what: str) -> list[tuple[object, ...]]:
        statement = (
            f"SELECT {what} FROM studies s JOIN trials t ON t.study_id = s.study_id "
            "LEFT JOIN trial_values v ON v.trial_id = t.trial_id "
            "LEFT JOIN trial_intermediate_values i ON i.trial_id = t.trial_id "
            "WHERE s.study_name = :name ORDER BY t.number"
        )
        with world.db.transaction(read_only=True):
            found = world.db.connection.execute(text(statement), {"name": name})
            return [tuple(row) for row in found]

    return ask


@pytest.fixture
def running(world, optuna, name):
    trial = world.admit()
    with world.db.transaction():
        handle = optuna.add_running(name, {"learning_rate": 1e-4}, world.stage.space)
        world.trials.bind(trial.id, handle.optuna_id, handle.number)
        return world.trials.get(trial.id)


def rolled_back(world, *steps):
    def attempt() -> None:
        with world.db.transaction():
            for step in steps:
                step()
            raise BoomError

    with pytest.raises(BoomError):
        attempt()


def test_an_admission_that_fails_leaves_neither_our_trial_nor_optunas(world, optuna, name, ask):
    rolled_back(
        world,
        lambda: world.admit(),
        lambda: optuna.add_running(name, {"learning_rate": 1e-4}, world.stage.space),
    )
    assert ask("t.number") == []
    with world.db.transaction():
        assert world.trials.tallies.total(world.stage.id) == 0


def test_numbers_have_no_gaps_after_an_admission_that_failed(world, optuna, name, ask):
    rolled_back(world, lambda: optuna.add_running(name, {"learning_rate": 1e-4}, world.stage.space))
    with world.db.transaction():
        handle = optuna.add_running(name, {"learning_rate": 1e-4}, world.stage.space)
    assert handle.number == 0
    assert ask("t.number") == [(0,)]


def test_a_report_that_fails_leaves_no_value(world, optuna, running, ask):
    rolled_back(world, lambda: optuna.report(running.optuna_id, 1, 2.5))
    assert ask("i.intermediate_value") == [(None,)]


def test_an_end_that_fails_leaves_the_trial_running_on_both_sides(world, optuna, running, ask):
    rolled_back(
        world,
        lambda: optuna.finish(running.optuna_id, TrialState.COMPLETE, 1.0, None),
        lambda: world.trials.settle(running.id, TrialState.COMPLETE, reason="done", value=1.0),
    )
    assert ask("CAST(t.state AS VARCHAR), v.value") == [("RUNNING", None)]
    assert world.get(running.id).state is TrialState.RUNNING
    with world.db.transaction():
        optuna.finish(running.optuna_id, TrialState.COMPLETE, 1.0, None)
    assert ask("CAST(t.state AS VARCHAR), v.value") == [("COMPLETE", 1.0)]


def test_a_stale_holders_step_changes_nothing_in_optuna(world, optuna, running, ask):
    with world.db.transaction():
        world.trials.requeue(running.id, reason="lost", event=TrialEvent.EXPIRE)

    def step() -> None:
        with world.db.transaction():
            optuna.report(running.optuna_id, 1, 2.5)
            world.trials.hold(running.lease)

    with pytest.raises(Exception, match="no longer held"):
        step()
    assert ask("i.intermediate_value") == [(None,)]


def test_deleting_an_optuna_study_is_undone_with_the_transaction(world, optuna, running, name, ask):
    rolled_back(world, lambda: optuna.delete(name))
    assert ask("t.number") == [(0,)]


def test_optunas_own_storage_joins_through_its_session_factory(world):
    """Guards the one private spot that everything rests on: RDBStorage takes its sessions from scoped_session."""
    storage = RDBStorage(world.db.url, skip_table_creation=True, skip_compatibility_check=True)
    storage.engine.dispose()
    storage.scoped_session = world.db.session_source
    name = f"{world.study.name}/plain"
    template = create_trial(state=OptunaState.RUNNING, params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)})
    with world.db.transaction():
        study_id = storage.create_new_study([StudyDirection.MINIMIZE], name)
        kept = storage.create_new_trial(study_id, template)
    rolled_back(
        world,
        lambda: storage.set_trial_intermediate_value(kept, 1, 2.5),
        lambda: storage.set_trial_user_attr(kept, "key", "value"),
        lambda: storage.set_trial_state_values(kept, OptunaState.COMPLETE, [1.0]),
        lambda: storage.create_new_trial(study_id, template),
    )
    (found,) = storage.get_all_trials(study_id)
    assert (found.state, found.intermediate_values, found.user_attrs) == (OptunaState.RUNNING, {}, {})
    with world.db.transaction():
        storage.set_trial_state_values(kept, OptunaState.COMPLETE, [1.0])
    assert storage.get_trial(kept).value == 1.0


def test_an_error_inside_optuna_undoes_only_its_own_part(world, optuna, name, running):
    """Optuna swallows some integrity errors; PostgreSQL would refuse every further statement without a savepoint."""
    with world.db.transaction():
        world.trials.extend(running.lease, 60, 0.5)
        session = world.db.session_source()
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            session.execute(text("INSERT INTO studies (study_name) VALUES (:name)"), {"name": name})
        session.rollback()
        session.close()
    assert world.get(running.id).progress == 0.5
