"""`launch local`: workers of this machine that somebody kills, that are scaled, and that outlive their shell."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from hpo_service.domain.trial.states import TrialState
from tests.fleet.conftest import Desk

pytestmark = pytest.mark.slow


def children(desk: Desk, kind: str) -> list[psutil.Process]:
    """Processes of the desk's launches that are workers, or the children in which trials run."""
    found = []
    for process in psutil.process_iter():
        try:
            line, told = process.cmdline(), process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if kind in line and told.get("HPO_SERVICE_OUTPUT") == str(desk.output):
            found.append(process)
    return found


def test_a_worker_and_a_child_are_killed_and_all_trials_end(desk: Desk) -> None:
    desk.study(trials=10)
    running = desk.start("launch", "local", "mine", "--workers", "4", "--drain-seconds", "20", STEP_SECONDS="0.7")
    desk.wait(lambda: desk.count(TrialState.RUNNING) == 4, "four workers at work")
    first, second, *_ = children(desk, "worker")
    (child,) = [each for each in second.children() if "hpo_service.objective" in each.cmdline()]
    first.kill()
    child.kill()
    desk.wait_for_the_end()
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 0, said
    desk.require_nothing_lost(10)
    assert "was killed by SIGKILL" in said
    assert "was started again" in said
    assert any("SIGKILL" in reason for reason in desk.events("trial_error"))
    assert desk.events("lease_lost")
    assert len(desk.events("worker_joined")) == 5
    (found,) = desk.launches()
    assert (found["state"], found["reason"]) == ("ended", "study mine is finished")
    assert {worker["job"] for worker in found["workers_seen"]} == {f"local cpu{i}" for i in range(4)}
    assert "SIGKILL" in desk.say("launch", "logs", found["id"])


def test_a_detached_launch_is_scaled_and_cancelled_by_what_the_database_says(desk: Desk) -> None:
    desk.study(trials=100)
    said = desk.say("launch", "local", "mine", "--workers", "1", "--drain-seconds", "20", "--detach", STEP_SECONDS="1")
    (id,) = [launch["id"] for launch in desk.launches()]
    assert f"launch {id}: up to 1 workers for study mine, kept by process" in said
    desk.wait(lambda: desk.count(TrialState.RUNNING) == 1, "a worker at work")
    desk.say("launch", "scale", id, "2")
    desk.wait(lambda: desk.count(TrialState.RUNNING) == 2, "two workers at work")
    (kept,) = desk.launches()
    assert kept["seen_at"] > kept["created_at"]
    desk.say("launch", "cancel", id, "--reason", "lunch")
    desk.wait(lambda: not children(desk, "worker") and not children(desk, "keep"), "processes that are gone")
    assert (desk.count(TrialState.RUNNING), desk.launches()[0]["reason"]) == (0, "lunch")
    assert desk.count(*TrialState) == desk.count(TrialState.WAITING, TrialState.COMPLETE)


def test_until_done_workers_come_as_stages_open(desk: Desk) -> None:
    desk.study(trials=1, confirm={"top": 1, "seeds": 2, "default": {"x": 0.9}})
    options = ("--max", "8", "--until-done", "--idle-seconds", "2", "--drain-seconds", "20")
    said = desk.say("launch", "local", "mine", *options, STEP_SECONDS="1")
    assert "1 workers started (1 can be of use in search)" in said
    assert "can be of use in confirm" in said
    desk.require_nothing_lost(5)


def test_ctrl_c_has_workers_save_and_leave(desk: Desk) -> None:
    desk.study(trials=20)
    running = desk.start("launch", "local", "mine", "--workers", "1", "--drain-seconds", "20", STEP_SECONDS="1")
    desk.wait(lambda: desk.count(TrialState.RUNNING) == 1, "a worker at work")
    os.kill(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopping: running trials save a checkpoint" in said
    assert (desk.count(TrialState.RUNNING), desk.count(TrialState.WAITING)) == (0, 1)
    assert desk.launches()[0]["state"] == "cancelled"
