"""Reading trials incrementally: nothing twice, and never what a rolled-back transaction wrote."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable
from contextlib import AbstractContextManager

import pytest
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import FloatParameter, SearchSpace
from hpo_service.domain.trial.states import TrialState
from hpo_service.search import reader as reader_module
from hpo_service.search.enlisted import EnlistedStorage
from hpo_service.search.reader import TrialReader
from hpo_service.search.studies import OptunaStudies
from hpo_service.storage.database import Database

NAME = "s/search"
Undo = Callable[[Database], AbstractContextManager[None]]
SPACE = SearchSpace(parameters={"x": FloatParameter(low=0, high=1)})


class CountingStorage(EnlistedStorage):
    """Remembers how many trials each read brought in."""

    fetched: list[int]

    def _get_trials(
        self,
        study_id: int,
        states: Container[OptunaState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        self.fetched.append(len(trials))
        return trials


@pytest.fixture
def storage(database: Database) -> CountingStorage:
    storage = CountingStorage(database.url, database.session_source)
    storage.fetched = []
    return storage


def add(studies: OptunaStudies, value: float | None = None, x: float = 0.5) -> int:
    handle = studies.add_running(NAME, {"x": x}, SPACE)
    if value is not None:
        studies.finish(handle.optuna_id, TrialState.COMPLETE, value, None)
    return handle.optuna_id


def states(trials: list[FrozenTrial]) -> list[OptunaState]:
    return [trial.state for trial in trials]


def test_finished_trials_are_read_once(database: Database, studies: OptunaStudies, storage: CountingStorage) -> None:
    reader = TrialReader(storage)
    with database.transaction():
        ids = [add(studies, 0.1), add(studies), add(studies, 0.3)]
    study = storage.study_id(NAME)
    assert states(reader.read(study)) == [OptunaState.COMPLETE, OptunaState.RUNNING, OptunaState.COMPLETE]
    with database.transaction():
        studies.report(ids[1], 1, 0.9)
        add(studies, 0.4)
    again = reader.read(study)
    assert [trial.number for trial in again] == [0, 1, 2, 3]
    assert again[1].intermediate_values == {1: 0.9}
    # all three; then the running one, the newest finished one and the new one
    assert storage.fetched == [3, 3]
    with database.transaction():
        studies.finish(ids[1], TrialState.PRUNED, None, None)
    assert states(reader.read(study))[1] is OptunaState.PRUNED
    reader.read(study)
    assert storage.fetched == [3, 3, 2, 1]


def test_an_ending_that_was_rolled_back_is_not_remembered(
    database: Database, studies: OptunaStudies, storage: CountingStorage, undone: Undo
) -> None:
    reader = TrialReader(storage)
    with database.transaction():
        trial_id = add(studies)
    study = storage.study_id(NAME)
    with undone(database):
        studies.finish(trial_id, TrialState.COMPLETE, 0.1, None)
        assert states(reader.read(study)) == [OptunaState.COMPLETE]
    assert states(reader.read(study)) == [OptunaState.RUNNING]


def test_a_trial_that_was_rolled_back_is_not_remembered(
    database: Database, studies: OptunaStudies, storage: CountingStorage, undone: Undo
) -> None:
    reader = TrialReader(storage)
    study = storage.study_id(NAME)
    with undone(database):
        add(studies, 0.1)
        assert len(reader.read(study)) == 1
    assert reader.read(study) == []


@pytest.mark.parametrize("ended", [True, False])
def test_a_study_deleted_and_made_anew_elsewhere_is_noticed(
    database: Database, studies: OptunaStudies, storage: CountingStorage, ended: bool
) -> None:
    reader = TrialReader(storage)
    with database.transaction():
        for _ in range(3):
            add(studies, 0.1 if ended else None, x=0.1)
    study = storage.study_id(NAME)
    reader.read(study)
    with database.transaction():
        studies.delete(NAME)
        studies.create(NAME, "minimize")
        for _ in range(2 if not ended else 3):
            add(studies, 0.2, x=0.9)
    assert storage.study_id(NAME) == study, "SQLite gives a freed row number out again"
    assert {trial.params["x"] for trial in reader.read(study)} == {0.9}


def many(studies: OptunaStudies, values: Iterable[float]) -> None:
    for value in values:
        add(studies, value)


def test_of_many_trials_the_latest_and_the_best_of_the_earlier_ones_are_remembered(
    database: Database, studies: OptunaStudies, storage: CountingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "BEST", 2)
    with database.transaction():
        many(studies, [5.0, 1.0, 4.0, 2.0, 3.0])
        add(studies)
        many(studies, [7.0, 8.0, 6.0])
        studies.finish(add(studies), TrialState.FAILED, None, None)
    found = TrialReader(storage).read(storage.study_id(NAME), latest=3)
    assert [trial.number for trial in found if trial.state is not OptunaState.FAIL] == [1, 3, 5, 6, 7, 8]
    assert storage.fetched == [7]


@pytest.mark.parametrize("direction", [Direction.MINIMIZE, Direction.MAXIMIZE])
def test_what_is_remembered_does_not_depend_on_when_it_was_read(
    database: Database, storage: CountingStorage, direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "BEST", 4)
    studies = OptunaStudies(database.url, database.session_source)
    with database.transaction():
        studies.create(NAME, direction)
    study, draw, running = storage.study_id(NAME), random.Random(2), []
    often = TrialReader(storage)
    for _ in range(80):
        with database.transaction():
            if running and draw.random() < 0.5:
                state = draw.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED])
                studies.finish(
                    running.pop(draw.randrange(len(running))), state, draw.choice([0.1, draw.random()]), None
                )
            else:
                running.append(add(studies))
        if draw.random() < 0.6:
            kept = often.read(study, latest=10)
            anew = TrialReader(storage).read(study, latest=10)
            assert [t.number for t in kept if t.state is not OptunaState.FAIL] == [
                t.number for t in anew if t.state is not OptunaState.FAIL
            ]
    assert len(kept) <= 10 + 4 + len(running) + 15
