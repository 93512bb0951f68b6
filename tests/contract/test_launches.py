"""Launches as the database keeps them, on each kind."""

from __future__ import annotations

import pytest

from hpo_service.errors import ConflictError, NotFoundError
from hpo_service.service.launches import Launches, LaunchState
from hpo_service.storage.events import About
from hpo_service.storage.launches import LaunchStore
from hpo_service.storage.workers import WorkerStore


@pytest.fixture
def launches(world):
    return Launches(world.db, world.studies, LaunchStore(world.db), WorkerStore(world.db))


@pytest.fixture
def launched(launches, world):
    options = {"partition": "gpu", "until_done": True}
    return launches.add("3f2a91c0", world.study.name, "slurm", 8, options, output="/shared/out", by="ann@desk")


def events(world):
    with world.db.transaction(read_only=True):
        rows = LaunchStore(world.db).events.list(About())
    return [(row.kind, row.reason, row.details) for row in rows if row.kind.startswith("launch")]


def test_what_was_launched_is_read_from_anywhere(launches, launched, another, world):
    launches.add_jobs(launched.id, ["17", "18"])
    launches.add_jobs(launched.id, ["21"])
    elsewhere = another().db
    read = Launches(elsewhere, world.studies, LaunchStore(elsewhere), WorkerStore(elsewhere)).get(launched.id)
    assert (read.study, read.launcher, read.state, read.workers) == (
        world.study.name,
        "slurm",
        LaunchState.ACTIVE,
        8,
    )
    assert (read.options, read.jobs) == ({"partition": "gpu", "until_done": True}, ["17", "18", "21"])
    assert (read.output, read.by, read.seen_at, read.ended_at) == ("/shared/out", "ann@desk", None, None)


def test_each_move_is_an_event_of_the_study(launches, launched, world):
    assert launches.scale(launched.id, 16, "bob@desk").workers == 16
    assert launches.cancel(launched.id, "the queue is needed", "bob@desk")
    assert not launches.cancel(launched.id, "once more", "bob@desk")
    assert events(world) == [
        ("launch_started", "8 workers by the slurm launcher", {"launch": launched.id, "by": "ann@desk"}),
        ("launch_scaled", "16 workers wanted", {"launch": launched.id, "by": "bob@desk"}),
        ("launch_ended", "the queue is needed", {"launch": launched.id, "by": "bob@desk"}),
    ]
    ended = launches.get(launched.id)
    assert (ended.state, ended.reason) == (LaunchState.CANCELLED, "the queue is needed")
    assert ended.ended_at >= ended.created_at


def test_an_ended_launch_is_not_scaled(launches, launched):
    launches.end(launched.id, "the study has finished")
    with pytest.raises(ConflictError, match=r"is ended \(the study has finished\): launch workers anew"):
        launches.scale(launched.id, 4, "")


def test_whoever_keeps_a_launch_gives_signs_of_life_and_learns_what_is_wanted(launches, launched):
    launches.scale(launched.id, 3, "")
    kept = launches.beat(launched.id)
    assert kept.workers == 3
    assert kept.seen_at >= kept.created_at


def test_a_launch_is_kept_by_one_process_at_a_time(launches, launched, world):
    assert launches.take(launched.id).seen_at is not None
    with pytest.raises(
        ConflictError, match=r"is kept by a process on .* that was heard of 0 s ago: .* try again in 30 s"
    ):
        launches.take(launched.id)
    with world.db.transaction():
        world.db.connection.exec_driver_sql("UPDATE hpo_launch SET seen_at = seen_at - 31")
    assert launches.take(launched.id).id == launched.id


def test_a_launch_that_is_not_there_is_named_with_what_is_near(launches, launched):
    with pytest.raises(NotFoundError, match=r"no launch '3f2a91c1' \(did you mean 3f2a91c0\?\).*launch status"):
        launches.get("3f2a91c1")
    with pytest.raises(NotFoundError, match="no study 'nobody'"):
        launches.list_all("nobody")


def test_workers_are_found_by_their_launch_and_the_latest_are_told_to_leave_first(launches, launched, world):
    workers = WorkerStore(world.db)
    for number in range(3):
        with world.db.transaction():
            workers.register(f"w{number}", "n1", number, "1", "cpu", f"slurm 17_{number}", launched.id)
            workers.register(f"other{number}", "n1", number, "1", "cpu")
    assert launches.drain_workers(launched.id, 2, "fewer are wanted", "ann@desk") == 2
    (found,) = launches.list_all(world.study.name)
    assert [(row.job, row.state) for row in found.workers] == [
        ("slurm 17_0", "active"),
        ("slurm 17_1", "draining"),
        ("slurm 17_2", "draining"),
    ]


def test_a_launch_goes_with_its_study(launches, launched, world):
    with world.db.transaction():
        world.studies.delete(world.study.id)
    with pytest.raises(NotFoundError):
        launches.get(launched.id)
