"""Whoever keeps a launch: how many workers it starts, when, and why it comes to an end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import DatabaseUnavailableError, HpoServiceError, SchedulerError
from hpo_service.launch.keeper import VAIN_STARTS, Keeper
from hpo_service.launch.launch import Job
from hpo_service.launch.options import LaunchOptions
from hpo_service.service.launches import LaunchRow, LaunchState
from hpo_service.service.trials.budget import DeviceHours
from hpo_service.service.trials.demand import Demand

ROW = LaunchRow(
    id="3f2a91c0", study_id=1, study="mine", launcher="fake", state=LaunchState.ACTIVE, reason="launched", workers=4,
    options={}, jobs=[], output="/out", host="desk", by="ann@desk", created_at=0.0, seen_at=None, ended_at=None,
)  # fmt: skip
LEFT = Demand(StudyState.ACTIVE, "search", workers=20, ended=0, hours=DeviceHours(0.0, 0.0, 0.0))


@dataclass
class World:
    """Launcher, database and study in one; time passes when somebody sleeps, and what was planned for it happens."""

    keeps: bool = False
    row: LaunchRow = ROW
    demand: Demand = LEFT
    there: int = 0
    now: float = 0.0
    away: bool = False
    started: list[tuple[float, int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    planned: dict[float, Callable[[], object]] = field(default_factory=dict)
    options = LaunchOptions

    @property
    def launches(self) -> World:
        return self

    def launcher_of(self, row: LaunchRow) -> World:
        return self

    def take(self, id: str) -> LaunchRow:
        return self.beat(id)

    def beat(self, id: str) -> LaunchRow:
        if self.away:
            raise DatabaseUnavailableError("the database is away")
        return self.row

    def of(self, study: str, hours: float | None) -> Demand:
        return self.demand

    def jobs(self) -> list[Job]:
        return [Job("17", "running", self.there)] if self.there else []

    def submit(self, launcher: World, id: str, workers: int) -> list[str]:
        self.started.append((self.now, workers))
        self.there += workers
        return ["17"]

    def withdraw(self, workers: int) -> int:
        self.there -= 1
        return 1

    def drain_workers(self, id: str, most: int, reason: str, by: str) -> int:
        self.happened.append(f"drained {most}")
        self.there -= most
        return most

    def tick(self) -> list[str]:
        return []

    def settle(self) -> None:
        self.happened.append("settled")

    def end(self, id: str, reason: str) -> None:
        self.happened.append(f"ended: {reason}")

    def cancel(self, *given: str, now: bool = False) -> None:
        self.happened.append("told to leave at once" if now else f"cancelled {' '.join(given)}".strip())
        if not given:
            self.there = 0

    def sleep(self, seconds: float) -> None:
        assert self.now < 10_000, "the keeper never came to an end"
        self.now += seconds
        for time in sorted(self.planned):
            if time <= self.now:
                self.planned.pop(time)()

    def keeper(self, **options: Any) -> Keeper:
        self.row = replace(self.row, options=options)
        world: Any = self
        tend = lambda: self.happened.append("tended")  # noqa: E731
        return Keeper(ROW.id, world, world, tend, self.said.append, lambda: self.now, self.sleep)


def change(world: World, name: str, **values: Any) -> Callable[[], None]:
    return lambda: setattr(world, name, replace(getattr(world, name), **values))


FINISHED: Mapping[str, Any] = {"state": StudyState.FINISHED, "workers": 0}


def test_as_many_as_were_asked_for_are_started_and_the_launch_ends_with_its_study() -> None:
    world = World()
    world.planned = {20.0: change(world, "demand", **FINISHED), 30.0: lambda: setattr(world, "there", 0)}
    assert world.keeper().keep() == "study mine is finished"
    assert world.started == [(0.0, 4)]
    assert world.happened[-2:] == ["settled", "ended: study mine is finished"]


def test_no_more_are_started_than_there_are_trials_left_and_others_as_a_stage_opens() -> None:
    world = World(demand=replace(LEFT, workers=2))
    world.planned = {
        20.0: lambda: (change(world, "demand", ended=2, workers=0)(), setattr(world, "there", 0)),
        40.0: change(world, "demand", stage="confirm", ended=0, workers=9),
        60.0: lambda: (change(world, "demand", **FINISHED)(), setattr(world, "there", 0)),
    }
    world.keeper(until_done=True).keep()
    assert [count for _, count in world.started] == [2, 4]
    assert world.said[0] == "2 workers started (2 can be of use in search): 17"
    assert "tended" in world.happened


def test_a_launch_is_scaled_by_what_the_database_says() -> None:
    world = World()
    world.planned = {
        20.0: change(world, "row", workers=7),
        40.0: change(world, "row", workers=2),
        60.0: lambda: (change(world, "demand", **FINISHED)(), setattr(world, "there", 0)),
    }
    world.keeper().keep()
    assert [count for _, count in world.started] == [4, 3]
    assert "drained 4" in world.happened


def test_workers_that_leave_over_and_over_are_started_after_growing_pauses_and_then_given_up() -> None:
    world = World(demand=replace(LEFT, workers=1))
    submit = world.submit

    def dies(launcher: World, id: str, workers: int) -> list[str]:
        jobs = submit(launcher, id, workers)
        world.there = 0
        return jobs

    world.submit = dies  # type: ignore[method-assign]
    with pytest.raises(
        HpoServiceError, match="left 5 times without a trial having ended: see `hpo-service launch logs"
    ):
        world.keeper(until_done=True).keep()
    times = [time for time, _ in world.started]
    assert len(times) == VAIN_STARTS + 1
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 8 * pauses[0]


def test_a_cap_that_is_reached_ends_the_launch_once_the_workers_have_left() -> None:
    world = World()
    capped = "4.9 of at most 5 device hours are used and 0.2 more would be spoken for"
    world.planned = {
        20.0: change(world, "demand", forbidden=capped, workers=0),
        50.0: lambda: setattr(world, "there", 0),
    }
    assert world.keeper(max_device_hours=5.0).keep() == f"{capped}: raise the cap and launch workers anew to go on"
    assert world.now >= 50.0


@pytest.mark.parametrize("keeps", [True, False])
def test_a_launch_that_somebody_cancels_is_left(keeps: bool) -> None:
    world = World(keeps=keeps)
    world.planned = {20.0: change(world, "row", state=LaunchState.CANCELLED, reason="lunch")}
    assert world.keeper().keep() == "lunch"
    assert world.happened[-1] == "cancelled"
    assert world.there == 0


def test_an_interrupted_keeper_ends_its_own_workers_and_leaves_a_schedulers_alone() -> None:
    for keeps, there in ((True, 0), (False, 4)):
        world = World(keeps=keeps)
        keeper = world.keeper()
        world.planned = {20.0: keeper.interrupt}
        assert keeper.keep() == "whoever kept it was interrupted"
        assert world.there == there
    assert "hpo-service launch keep 3f2a91c0" in world.said[-1]


def test_an_outage_of_the_database_ends_nothing() -> None:
    world = World()
    world.planned = {
        20.0: lambda: setattr(world, "away", True),
        40.0: lambda: setattr(world, "away", False),
        60.0: lambda: (change(world, "demand", **FINISHED)(), setattr(world, "there", 0)),
    }
    assert world.keeper().keep() == "study mine is finished"
    assert "the database is away; the workers go on" in world.said


def test_workers_that_are_all_gone_before_the_study_has_ended_are_an_error() -> None:
    world = World()
    world.planned = {20.0: lambda: setattr(world, "there", 0)}
    with pytest.raises(HpoServiceError, match=r"no worker of launch 3f2a91c0 is left: see `hpo-service launch logs"):
        world.keeper().keep()
    assert world.happened[-1].startswith("ended: study mine has not ended")


def test_a_scheduler_that_refuses_for_a_while_is_asked_again_but_not_at_the_very_start() -> None:
    world = World()
    jobs = world.jobs

    def refuses() -> list[Job]:
        raise SchedulerError("Slurm has not answered")

    def plan(of: Callable[[], list[Job]]) -> Callable[[], object]:
        return lambda: setattr(world, "jobs", of)

    world.planned = {
        20.0: plan(refuses),
        900.0: plan(jobs),
        920.0: lambda: (change(world, "demand", **FINISHED)(), setattr(world, "there", 0)),
    }
    assert world.keeper().keep() == "study mine is finished"
    assert world.said.count("Slurm has not answered; it is tried again") == 1
    world = World()
    plan(refuses)()
    with pytest.raises(SchedulerError):
        world.keeper().keep()
