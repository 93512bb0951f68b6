"""Workers under a real Slurm: what it does to them, and what becomes of the trials."""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest

from hpo_service.domain.trial.states import TrialState
from tests.fleet.conftest import Desk
from tests.fleet.slurm_site import SlurmSite

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]


@pytest.fixture
def site(desk: Desk, site_of: Callable[..., SlurmSite]) -> SlurmSite:
    site = site_of(largest_array=3)
    desk.environment |= site.environment
    return site


def launch(desk: Desk, *options: str, **environment: str) -> str:
    """Launch workers; return the name of the launch."""
    desk.say("launch", "slurm", "mine", "--drain-seconds", "20", "--gpus", "0", *options, **environment)
    return str(desk.launches()[-1]["id"])


def test_a_study_runs_to_its_end_with_several_workers_in_a_task(desk: Desk, site: SlurmSite) -> None:
    desk.study(trials=4, confirm={"top": 1, "seeds": 2, "default": {"x": 0.9}})
    id = launch(desk, "--workers", "2", "--tasks", "2", "--cpus", "1")
    assert stat.S_IMODE((desk.output / "launches" / f"{id}.env").stat().st_mode) == 0o600
    desk.wait_for_the_end()
    desk.require_nothing_lost(8)
    site.wait(lambda: set(site.tasks(f"hpo-{id}").values()) <= {"COMPLETED"}, "tasks that end by themselves")
    (found,) = desk.launches()
    assert (found["state"], found["reason"]) == ("ended", "study mine is finished")
    (job,) = found["jobs"]
    assert sorted(worker["job"] for worker in found["workers_seen"]) == [
        f"slurm {job}_0.{process}" for process in (0, 1)
    ]
    assert not (desk.output / "launches" / f"{id}.env").exists()
    assert "the objective returned its value" in desk.say("launch", "logs", id)


def test_until_done_tasks_are_submitted_as_stages_open(desk: Desk, site: SlurmSite) -> None:
    desk.study(trials=1, confirm={"top": 1, "seeds": 2, "default": {"x": 0.9}})
    options = ("--max", "3", "--until-done", "--idle-seconds", "2", "--drain-seconds", "20", "--gpus", "0")
    said = desk.say("launch", "slurm", "mine", *options, STEP_SECONDS="2")
    assert "1 workers started (1 can be of use in search): 1\n" in said
    assert "can be of use in confirm" in said
    assert said.endswith("is over: study mine is finished\n")
    desk.require_nothing_lost(5)
    assert site.left() == []


def test_no_trial_is_lost_by_what_slurm_does_to_workers(desk: Desk, site: SlurmSite) -> None:
    desk.study(trials=8)
    id = launch(desk, "--workers", "3", "--cpus", "2", STEP_SECONDS="1")
    name = f"hpo-{id}"
    desk.wait(lambda: desk.count(TrialState.RUNNING) == 3, "three workers at work")
    first, *_ = sorted(task for task, state in site.tasks(name).items() if state == "RUNNING")
    site.ask("scancel", "--signal=TERM", "--batch", first)
    second = sorted(site.tasks(name))[1]
    site.ask("scontrol", "requeue", second)
    site.ask("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    desk.wait(lambda: desk.events("trial_given_back"), "a trial that is given back")
    site.ask("scontrol", "update", "nodename=n2", "state=resume")
    desk.wait_for_the_end(lambda: site.let_begin(name))
    desk.require_nothing_lost(8)
    assert any("SIGTERM" in reason or "SIGUSR1" in reason for reason in desk.events("trial_given_back"))


def test_at_the_time_limit_trials_are_given_back_and_the_task_is_queued_again(desk: Desk, site: SlurmSite) -> None:
    desk.study(trials=3)  # 36 seconds, of which a task has 30
    id = launch(desk, "--workers", "1", "--time", "1", "--signal-seconds", "30", STEP_SECONDS="3")
    name = f"hpo-{id}"
    site.wait(lambda: "PENDING" not in site.tasks(name).values(), "a task that runs")
    desk.wait_for_the_end(lambda: site.let_begin(name))
    desk.require_nothing_lost(3)
    assert any("SIGUSR1" in reason or "time of" in reason for reason in desk.events("trial_given_back"))
    assert len(desk.launches()[0]["workers_seen"]) > 1


def test_cancel_leaves_nothing_of_arrays_that_were_split(desk: Desk, site: SlurmSite) -> None:
    desk.study(trials=50)
    id = launch(desk, "--workers", "7", "--cpus", "4", STEP_SECONDS="0.5")
    name = f"hpo-{id}"
    (before,) = desk.launches()
    assert len(before["jobs"]) == 3
    assert sum(job["workers"] for job in before["in_queue"]) == 7
    desk.wait(lambda: desk.count(TrialState.RUNNING), "a worker at work")
    assert "2 that waited were taken back, 0 that run were told to leave" in desk.say("launch", "scale", id, "5")
    desk.say("launch", "cancel", id, "--reason", "enough")
    site.wait(lambda: not set(site.tasks(name).values()) & {"PENDING", "RUNNING", "COMPLETING"}, "tasks that are gone")
    assert site.left() == []
    assert desk.count(*TrialState) == desk.count(TrialState.WAITING, TrialState.COMPLETE)
    assert not (desk.output / "launches" / f"{id}.env").exists()
    (after,) = desk.launches()
    assert (after["state"], after["reason"], after["in_queue"]) == ("cancelled", "enough", [])
