"""Workers on a real Ray cluster of two nodes: what happens to its actors, and what becomes of the trials."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo_service.domain.trial.states import TrialState
from tests.fleet import ray_site
from tests.fleet.conftest import HERE, Desk
from tests.fleet.ray_site import RaySite

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(600)]
SECRET = "hf_known-to-no-other"


@pytest.fixture(scope="module")
def site() -> Iterator[RaySite]:
    """A cluster for these tests; where Ray is not installed they are skipped, and in CI they fail instead."""
    if lacking := ray_site.missing():
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(f"no Ray for the tests: {lacking}")
        pytest.skip(f"no Ray for the tests: {lacking}")
    # directly under the temporary folder: a socket's path must stay under about 100 characters
    with (
        pytest.MonkeyPatch.context() as environment,
        tempfile.TemporaryDirectory(prefix="hpo-ray-", ignore_cleanup_errors=True) as folder,
    ):
        paths = [str(HERE), str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment.setenv("PYTHONPATH", os.pathsep.join(paths))
        environment.setenv("STEP_SECONDS", "0.5")
        # where Ray notes the address of the last cluster: not in the file of somebody's own
        environment.setenv("RAY_TMPDIR", folder)
        site = RaySite(Path(folder))
        yield site
        site.stop()


def launch(desk: Desk, site: RaySite) -> str:
    """Launch a worker for each node; return the name of the launch."""
    options = ("--workers", "2", "--num-gpus", "0", "--num-cpus", "2", "--drain-seconds", "20")
    desk.say("launch", "ray", "mine", "--address", site.address, *options, HF_TOKEN=SECRET)
    return str(desk.launches()[-1]["id"])


def test_a_study_runs_to_its_end_and_the_actors_end_with_it(desk: Desk, site: RaySite) -> None:
    desk.study(trials=4, confirm={"top": 1, "seeds": 2, "default": {"x": 0.9}})
    id = launch(desk, site)
    desk.wait(lambda: desk.count(TrialState.RUNNING) == 2, "two workers at work")
    assert site.tells(SECRET) == []
    (before,) = desk.launches()
    assert before["jobs"] == [f"hpo-{id}-0..1@{site.address}"]
    assert [job["id"] for job in before["in_queue"]] == [f"hpo-{id}-0", f"hpo-{id}-1"]
    desk.wait_for_the_end()
    desk.require_nothing_lost(8)
    desk.wait(lambda: site.left(f"HPO_SERVICE_LAUNCH={id}") == [], "workers that leave")
    (found,) = desk.launches()
    assert (found["state"], found["reason"], found["in_queue"]) == ("ended", "study mine is finished", [])
    assert sorted(worker["job"] for worker in found["workers_seen"]) == [f"ray hpo-{id}-{number}" for number in (0, 1)]
    assert "the objective returned its value" in desk.say("launch", "logs", id)


def test_a_node_that_is_lost_loses_no_trial_and_its_actor_goes_on_elsewhere(desk: Desk, site: RaySite) -> None:
    desk.study(trials=30)
    id = launch(desk, site)
    desk.wait(lambda: desk.count(TrialState.RUNNING) == 2, "two workers at work")
    lost = site.lose_a_node()
    # Ray forgets its processes, and they must not go on with a GPU that it gives to others
    desk.wait(lambda: site.left(f"RAY_RAYLET_PID={lost}") == [], "the end of the worker of the node that is lost")
    site.replace_the_node()
    desk.wait(lambda: len(desk.service.launches.workers_of(id).workers) == 3, "a worker on the new node")
    desk.wait_for_the_end()
    desk.require_nothing_lost(30)
    desk.wait(lambda: site.left(f"HPO_SERVICE_LAUNCH={id}") == [], "workers that leave")
    jobs = [worker["job"] for worker in desk.launches()[0]["workers_seen"]]
    assert (set(jobs), len(jobs)) == ({f"ray hpo-{id}-0", f"ray hpo-{id}-1"}, 3)


def test_cancel_leaves_no_actor_and_no_worker(desk: Desk, site: RaySite) -> None:
    desk.study(trials=50)
    id = launch(desk, site)
    desk.wait(lambda: desk.count(TrialState.RUNNING) == 2, "two workers at work")
    assert "submitted hpo-" in desk.say("launch", "scale", id, "3")
    (before,) = desk.launches()
    assert sorted(job["state"] for job in before["in_queue"]) == ["pending", "running", "running"]
    assert "1 that waited were taken back, 0 that run were told to leave" in desk.say("launch", "scale", id, "2")
    desk.say("launch", "cancel", id, "--reason", "enough")
    desk.wait(lambda: site.left(f"HPO_SERVICE_LAUNCH={id}") == [], "workers that leave")
    assert desk.count(*TrialState) == desk.count(TrialState.WAITING, TrialState.COMPLETE)
    (after,) = desk.launches()
    assert (after["state"], after["reason"], after["in_queue"]) == ("cancelled", "enough", [])
    launcher = desk.service.dispatch.launcher_of(desk.service.launches.get(id))
    desk.wait(lambda: launcher.jobs() == [], "actors that end")
