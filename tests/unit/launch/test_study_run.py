"""A run tells a view what happens, whatever draws it, and hands orders on to the launcher alone."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import ConflictError, DatabaseUnavailableError, HpoServiceError
from hpo_service.launch import study_run
from hpo_service.launch.study_run import StudyRun
from hpo_service.service.workers import Activity
from tests.unit.presentation import story


@dataclass
class World:
    """Launcher, reader, workers, reaper and view in one: the study ends after so many looks."""

    looks: int = 3
    ends: StudyState = StudyState.FINISHED
    alive: int = 1
    lines: list[str] = field(default_factory=list)
    logs: str = "the logs"
    happened: list[object] = field(default_factory=list)

    def start(self) -> None:
        self.happened.append("started")

    def watch(self) -> list[str]:
        return [self.lines.pop()] if self.lines else []

    def signal(self, number: signal.Signals) -> None:
        self.happened.append(number)

    def wait(self, seconds: float) -> bool:
        self.happened.append(seconds)
        return True

    def snapshot(self, study: str) -> Any:
        self.looks -= 1
        state = self.ends if self.looks <= 0 else StudyState.ACTIVE
        return replace(story.snapshot(story.search_stage(5)), name=study, state=state, reason="a test")

    def activities(self) -> dict[str, Activity]:
        return {"w": Activity("loading (10%)", 0.0), "v": Activity("measuring", 0.0)}

    def reap(self) -> None:
        self.happened.append("reaped")

    def update(self, snapshot: Any) -> None:
        self.happened.append(snapshot.state)

    def working(self, activities: Any) -> None:
        self.activity = {worker: said.text for worker, said in activities.items()}

    def note(self, line: str) -> None:
        self.happened.append(line)

    def said(self) -> list[str]:
        return [f"cpu0: look {self.looks}"]

    def log(self, line: str) -> None:
        self.happened.append(("log", line))


def run_in(world: Any) -> StudyRun:
    return StudyRun("mine", world, world, world, world)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_run, "REFRESH_SECONDS", 0.0)


def test_workers_are_started_watched_and_waited_for_until_the_study_ends() -> None:
    world: Any = World(lines=["worker cpu0 was started again"])
    assert run_in(world).work(world).state is StudyState.FINISHED
    assert world.happened == [
        "started",
        "worker cpu0 was started again",
        StudyState.ACTIVE,
        "loading (10%)",
        StudyState.FINISHED,
        study_run.DRAIN_SECONDS,
        "reaped",
        StudyState.FINISHED,
    ]
    assert world.activity == {"w": "loading (10%)", "v": "measuring"}, (
        "shown as they are; told once where it takes long"
    )


def test_an_interruption_is_handed_on_and_the_study_returned_as_it_stands() -> None:
    world: Any = World(looks=9, alive=0)
    run = run_in(world)
    run.interrupt()
    assert run.work(world).state is StudyState.ACTIVE
    assert world.happened[:3] == [signal.SIGTERM, "started", study_run.DRAIN_SECONDS]


def test_a_second_interruption_leaves_workers_little_time() -> None:
    world: Any = World(looks=9, alive=0)
    run = run_in(world)
    run.interrupt()
    run.interrupt()
    run.work(world)
    assert study_run.ABORT_SECONDS in world.happened


def test_a_study_that_somebody_paused_is_no_result() -> None:
    world: Any = World(looks=1, ends=StudyState.PAUSED, alive=0)
    with pytest.raises(ConflictError, match=r"study mine is paused \(a test\): `hpo-service study resume mine`"):
        run_in(world).work(world)


def test_where_no_worker_is_left_the_error_names_their_logs() -> None:
    world: Any = World(looks=9, alive=0)
    with pytest.raises(HpoServiceError, match="no worker is left: see the logs"):
        run_in(world).work(world)


def test_the_last_words_of_a_worker_stand_in_the_error() -> None:
    world: Any = World(looks=9, alive=1, lines=["worker gpu0 ended for good: left: peft not installed"])
    real = world.watch

    def watch() -> list[str]:
        world.alive = 0
        return list(real())

    world.watch = watch
    with pytest.raises(HpoServiceError, match=r"no worker is left: the last said: worker gpu0 .* peft not installed"):
        run_in(world).work(world)


@pytest.mark.parametrize("read", ["snapshot", "activities"])
def test_a_database_that_is_away_for_one_read_is_told_and_the_run_goes_on(read: str) -> None:
    world: Any = World()
    real, outcomes = getattr(world, read), iter([True, False] if read == "snapshot" else [False])

    def away_once(*given: Any) -> Any:
        if next(outcomes, True):
            return real(*given)
        raise DatabaseUnavailableError("the database is away")

    setattr(world, read, away_once)
    assert run_in(world).work(world).state is StudyState.FINISHED
    assert world.happened[1] == "the database is away; the workers go on"


def test_when_nobody_reads_what_is_shown_the_workers_are_told_to_leave_and_waited_for() -> None:
    world: Any = World(looks=9)

    def update(_: Any) -> None:
        raise SystemExit(141)

    world.update = update
    with pytest.raises(SystemExit):
        run_in(world).work(world)
    assert world.happened == ["started", signal.SIGTERM, study_run.DRAIN_SECONDS]


def test_only_a_verbose_run_tells_what_workers_log_and_that_to_the_end() -> None:
    silent: Any = World()
    run_in(silent).work(silent)
    assert not any(isinstance(each, tuple) for each in silent.happened)
    verbose: Any = World()
    replace(run_in(verbose), verbose=True).work(verbose)
    logged = [each for each in verbose.happened if isinstance(each, tuple)]
    assert logged[0] == ("log", "cpu0: look 2")
    assert verbose.happened.index(logged[-1]) > verbose.happened.index(study_run.DRAIN_SECONDS)
