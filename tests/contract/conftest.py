"""Databases with the schema in them, once on each kind, and a study to work with."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.planned import PlannedTrial
from hpo_service.domain.trial.states import TrialState
from hpo_service.search.studies import OptunaStudies
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StageRow, StudyStore
from hpo_service.storage.trial.trials import TrialRow, TrialStore
from tests.pauses import let_pass


@pytest.fixture
def url(migrated_url: str) -> str:
    """URL of a database with the schema and no rows of ours, once on each kind."""
    return migrated_url


@pytest.fixture
def connect(url: str) -> Iterator[Callable[[], Database]]:
    """Opens the database once more, as another process would."""
    opened: list[Database] = []

    def connect() -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield connect
    for database in opened:
        database.dispose()


class World:
    """A database with one study whose search stage is open, and short words for what tests do all the time."""

    LEASE = 60.0

    def __init__(self, database: Database, name: str, budget: int = 1000) -> None:
        self.db = database
        self.studies = StudyStore(database)
        self.trials = TrialStore(database)
        with database.transaction():
            self.study = self.studies.find(name) or self.studies.create(spec(name))
            opened = self.open_stage("search", budget)
        self.stage = opened

    def open_stage(self, stage: str, budget: int = 1000) -> StageRow:
        space = StudySpec.model_validate(self.study.spec).space.resolve()
        self.studies.open_stage(
            self.study.id,
            stage,
            optuna_name=f"{self.study.name}/{stage}",
            trials=budget,
            gpu_hours=None,
            space=space,
            plan={},
            reason="the tests need it",
        )
        return next(row for row in self.studies.stages(self.study.id) if row.stage == stage)

    def admit(self, key: str | None = None, lease: float = LEASE, worker: str = "w1", **more: float) -> TrialRow:
        with self.db.transaction():
            trial = self.trials.admit(
                self.stage,
                parameters={"learning_rate": 1e-4},
                dedupe_key=key,
                role="search",
                seed=1,
                worker_id=worker,
                lease_seconds=lease,
                **more,
            )
        assert trial is not None
        return trial

    def plan(self, count: int) -> list[TrialRow]:
        with self.db.transaction():
            planned = [PlannedTrial(role="carried", parameters={"x": i}, seed=i) for i in range(count)]
            return list(self.trials.plan(self.stage, planned))

    def claim(self, worker: str = "w2", lease: float = LEASE) -> TrialRow | None:
        """Claim a waiting trial, after the pauses that follow errors."""
        let_pass(self.db)
        return self.claim_now(worker, lease)

    def claim_now(self, worker: str, lease: float = LEASE) -> TrialRow | None:
        with self.db.transaction():
            return self.trials.claim_waiting(self.stage.id, worker, lease)

    def counts(self) -> dict[TrialState, int]:
        """Return how many trials of the stage are in each state; every state is there. Inside a transaction."""
        states = [row.state for row in self.trials.list(self.study.id, self.stage.id)]
        return {state: states.count(state) for state in TrialState}

    def lock_stage(self) -> StageRow:
        """Return the stage, held against others' changes until the transaction ends."""
        held = schema.stage.select().where(schema.stage.c.id == self.stage.id).with_for_update(key_share=True)
        self.db.connection.execute(held)
        return self.studies.of_stage(self.stage.id)[1]

    def get(self, trial_id: int) -> TrialRow:
        with self.db.transaction():
            return self.trials.get(trial_id)


def spec(name: str) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": name,
            "objective": {"python": "package.module:function"},
            "space": {"parameters": {"learning_rate": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}}},
        }
    )


@pytest.fixture
def study_spec() -> Callable[..., StudySpec]:
    return spec


@pytest.fixture
def world(connect: Callable[[], Database]) -> World:
    return World(connect(), f"study-{uuid.uuid4().hex}")


@pytest.fixture
def another(connect: Callable[[], Database], world: World) -> Callable[[], World]:
    """The same study through a connection of its own, as another process would see it."""
    return lambda: World(connect(), world.study.name)


@pytest.fixture
def optuna(world: World) -> OptunaStudies:
    return OptunaStudies(world.db.url, world.db.session_source)
