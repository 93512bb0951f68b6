"""Workers on a Ray cluster: what Ray is asked for, told by a stand-in for its module, and what an actor does."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpo_service.errors import NotFoundError, SchedulerError, UsageError
from hpo_service.launch import pool
from hpo_service.launch.launch import Launch
from hpo_service.launch.ray import actor
from hpo_service.launch.ray.actor import STOPPED, Work, WorkerActor
from hpo_service.launch.ray.launcher import Ray, RayOptions
from hpo_service.settings import Settings

SECRET = "postgresql://me:pass word'@db/studies"
HERE = "10.0.0.1:6379"
RUNS = ("n1", "running", "")


class RayError(Exception):
    """As Ray's own."""


class StandIn:
    """What is used of Ray's module, with a cluster of one node whose actors answer what the test says."""

    def __init__(self) -> None:
        self.exceptions = SimpleNamespace(RayError=RayError)
        self.util = SimpleNamespace(list_named_actors=self.list_named_actors)
        self.connections: list[dict[str, Any]] = []
        self.connected = False
        self.place = HERE
        self.resources = {"CPU": 8.0, "GPU": 4.0}
        self.made: dict[str, tuple[Work, dict[str, Any]]] = {}
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, tuple[object, ...]]] = []
        self.killed: list[str] = []
        self.gone = threading.Event()

    def is_initialized(self) -> bool:
        return self.connected

    def init(self, **given: Any) -> None:
        self.connections.append(given)
        self.connected = True

    def shutdown(self) -> None:
        self.connected = False

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": self.resources}, {"Alive": False, "Resources": {"GPU": 64.0}}]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address=self.place, current_actor=SimpleNamespace(name="itself"))

    def remote(self, kind: type) -> Any:
        assert kind is WorkerActor

        def options(**given: Any) -> Any:
            def remote(work: Work) -> Any:
                if given["name"] in self.made:
                    raise ValueError(f"The name {given['name']} is already taken")
                self.made[given["name"]] = (pickle.loads(pickle.dumps(work)), given)
                return self.get_actor(given["name"], given["namespace"])

            return SimpleNamespace(remote=remote)

        return SimpleNamespace(options=options)

    def list_named_actors(self, *, all_namespaces: bool) -> list[dict[str, str]]:
        assert all_namespaces
        there = [{"namespace": given["namespace"], "name": name} for name, (_, given) in self.made.items()]
        return [*there, {"namespace": "another", "name": "hpo-3f2a91c0-99"}]

    def get_actor(self, name: str, namespace: str) -> Any:
        def method(called: str) -> Any:
            def remote(*arguments: object) -> Any:
                self.asked.append((name, called, arguments))
                return (name, called)

            return SimpleNamespace(remote=remote)

        return SimpleNamespace(name=name, **{called: method(called) for called in ("state", "stop", "tail")})

    def wait(self, refs: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        assert num_returns == len(refs)
        done = [ref for ref in refs if self.answers.get(ref[0], RUNS) is not None]
        return done, [ref for ref in refs if ref not in done]

    def get(self, ref: Any) -> Any:
        answer = self.answers.get(ref[0], RUNS)
        if isinstance(answer, Exception):
            raise answer
        return STOPPED if ref[1] == "stop" else answer

    def kill(self, handle: Any, *, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(handle.name)
        self.made.pop(handle.name, None)
        self.gone.set()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.setitem(sys.modules, "ray.util", stand_in.util)
    for name in ("PGPASSWORD", "HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "HPO_SERVICE_CACHE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return stand_in


Make = Callable[..., Ray]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(each: int = 1, jobs: tuple[str, ...] = (), **options: Any) -> Ray:
        settings = Settings(SECRET, tmp_path / "out", tmp_path / "cache")
        return Ray(Launch("3f2a91c0", "mine", RayOptions.read(options), settings, each, jobs))

    return make


def test_each_worker_is_a_detached_actor_that_is_started_again_for_ever(make: Make, ray: StandIn) -> None:
    assert make(num_cpus=2, resource=["accelerator_type:A100=0.001"], autoscaling=True).submit(2) == [
        f"hpo-3f2a91c0-0..1@{HERE}"
    ]
    assert list(ray.made) == ["hpo-3f2a91c0-0", "hpo-3f2a91c0-1"]
    _, options = ray.made["hpo-3f2a91c0-1"]
    assert options == {
        "name": "hpo-3f2a91c0-1",
        "namespace": "hpo-3f2a91c0",
        "lifetime": "detached",
        "max_restarts": -1,
        "num_gpus": 1,
        "num_cpus": 2,
        "resources": {"accelerator_type:A100": 0.001},
    }


def test_an_actor_knows_a_command_and_its_environment_and_no_more(make: Make, ray: StandIn, tmp_path: Path) -> None:
    make(command="uv run hpo-service", idle_seconds=5.0).submit(1)
    work, _ = ray.made["hpo-3f2a91c0-0"]
    assert work.command == ("uv", "run", "hpo-service")
    assert work.arguments == ("--drain-seconds", "90", "--idle-seconds", "5")
    assert work.environment == {
        "HPO_SERVICE_LAUNCH": "3f2a91c0",
        "HPO_SERVICE_OUTPUT": str(tmp_path / "out"),
        "HPO_SERVICE_STORAGE": SECRET,
        "HPO_SERVICE_RAY_ACTOR": "hpo-3f2a91c0-0",
    }
    assert "pass word" not in repr(work)


def test_what_would_be_submitted_is_shown_without_ray_and_without_secrets(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = make(each=4).plan(2)
    plan = json.loads(text)
    assert plan["actors"] == ["hpo-3f2a91c0-0", "hpo-3f2a91c0-1"]
    assert plan["options"]["num_gpus"] == 4
    assert plan["command"] == "python -m hpo_service worker --study mine --until-finished --drain-seconds 90"
    assert {"HPO_SERVICE_STORAGE", "HF_TOKEN"} <= set(plan["secrets"])
    assert "pass word" not in text
    assert "hf_secret" not in text


def test_more_workers_get_numbers_of_their_own(make: Make, ray: StandIn) -> None:
    make().submit(2)
    assert make(jobs=(f"hpo-3f2a91c0-0..1@{HERE}",)).submit(1) == [f"hpo-3f2a91c0-2@{HERE}"]


def test_actors_are_made_all_or_none(make: Make, ray: StandIn) -> None:
    ray.answers["hpo-3f2a91c0-1"] = RayError("\nNo module named 'hpo_service'\nTraceback")
    with pytest.raises(SchedulerError, match=r"\(No module named 'hpo_service'\): the Python that Ray has"):
        make().submit(3)
    assert ray.made == {}
    assert len(ray.killed) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_gpus": 8}, r"what a worker needs, GPU 8, CPU 1 \(at most GPU 4, CPU 8\): ask for less with --num-gpus"),
        ({"num_gpus": 0, "num_cpus": 16}, "needs, CPU 16 "),
        ({"resource": ["tpu=1"]}, r"tpu 1 \(at most GPU 4, CPU 8, tpu 0\)"),
    ],
)
def test_a_cluster_without_such_resources_is_told_at_once(
    make: Make, ray: StandIn, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SchedulerError, match=message):
        make(**options).submit(1)
    assert make(**options, autoscaling=True).submit(1) == [f"hpo-3f2a91c0-0@{HERE}"]


def test_where_ray_is_not_installed_one_line_says_what_to_do(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.util", None)
    with pytest.raises(SchedulerError, match=r"pip install 'hpo-service\[ray\]'"):
        make().submit(1)


def test_where_no_cluster_answers_one_line_says_what_to_do(
    make: Make, ray: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with pytest.raises(SchedulerError, match=rf"at ray://127.0.0.1:{port} \(.*refused\): run this on one of its machi"):
        make(address=f"ray://127.0.0.1:{port}").jobs()
    assert ray.connections == []

    def init(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify the one to connect to")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(SchedulerError, match=r"at auto \(Could not find any running Ray instance\.\): run this on"):
        make().jobs()


def test_later_the_cluster_is_found_by_the_record_or_by_ray_address(
    make: Make, ray: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local-name")
    make(address="given").jobs()
    ray.shutdown()
    make(address="given", jobs=(f"hpo-3f2a91c0-0@{HERE}",)).jobs()
    assert [each["address"] for each in ray.connections] == ["given", "local-name"]


def test_another_cluster_is_not_taken_for_the_launchs(make: Make, ray: StandIn) -> None:
    elsewhere = make(jobs=("hpo-3f2a91c0-0@10.9.9.9:6379",))
    with pytest.raises(SchedulerError, match=rf"is on the Ray cluster at 10.9.9.9:6379, and this is the one at {HERE}"):
        elsewhere.cancel()
    # of several launches on several clusters each is asked where it is
    with pytest.raises(SchedulerError, match="RAY_ADDRESS"):
        elsewhere.jobs()
    assert len(ray.connections) == 2


def test_what_actors_say_is_told_by_state_and_place(make: Make, ray: StandIn) -> None:
    launched = make()
    launched.submit(3)
    ray.answers |= {"hpo-3f2a91c0-1": None, "hpo-3f2a91c0-2": RayError("The actor died\nbecause")}
    assert [(job.id, job.state, job.place, job.detail) for job in launched.jobs()] == [
        ("hpo-3f2a91c0-0", "running", "n1", ""),
        ("hpo-3f2a91c0-1", "pending", "", ""),
        ("hpo-3f2a91c0-2", "failed", "", "The actor died"),
    ]
    assert launched.withdraw(2) == 1
    assert ray.killed == ["hpo-3f2a91c0-1"]


@pytest.mark.parametrize("now", [False, True])
def test_cancel_tells_who_has_a_worker_and_ends_who_has_none(make: Make, ray: StandIn, now: bool) -> None:
    launched = make()
    launched.submit(2)
    ray.answers["hpo-3f2a91c0-1"] = None
    launched.cancel(now=now)
    assert ("hpo-3f2a91c0-0", "stop", (now,)) in ray.asked
    assert ray.killed == ["hpo-3f2a91c0-1"]


def test_logs_are_asked_of_the_actors_where_the_folder_is_not_here(make: Make, ray: StandIn, tmp_path: Path) -> None:
    launched = make()
    launched.submit(1)
    with pytest.raises(NotFoundError):
        list(launched.logs(2))
    ray.answers["hpo-3f2a91c0-0"] = ["==> n1:0.log <==", "said"]
    assert list(launched.logs(2)) == ["==> n1:0.log <==", "said"]
    written = tmp_path / "out/logs/launch-3f2a91c0-0.log"
    written.parent.mkdir(parents=True)
    written.write_text("a\nb\nc\n")
    assert list(launched.logs(2)) == [f"==> {written} <==", "b", "c"]


def test_a_cluster_that_stops_answering_is_a_schedulers_error(
    make: Make, ray: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RayError("GCS is gone")

    monkeypatch.setattr(ray.util, "list_named_actors", fail)
    with pytest.raises(SchedulerError, match=r"does not answer \(GCS is gone\)"):
        make().jobs()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_gpus": -1}, "--num-gpus: "),
        ({"num_cpus": 0}, "--num-cpus: "),
        ({"resource": ["tpu"]}, "--resource: 'tpu' is not NAME=NUMBER"),
        ({"address": ""}, "--address: "),
    ],
)
def test_options_that_cannot_be_meant_are_refused_by_their_names(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RayOptions.read(options)


def test_the_number_of_workers_must_be_said(make: Make) -> None:
    with pytest.raises(UsageError, match="--workers N"):
        _ = make().workers


# what an actor does


Begin = Callable[[str], WorkerActor]


@pytest.fixture
def begin(tmp_path: Path, ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Makes an actor in this process, whose worker is a line of shell; `ray.gone` is its end."""
    monkeypatch.setattr(pool, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr(actor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(actor, "SPARE_SECONDS", 0.05)
    before = signal.getsignal(signal.SIGTERM)
    begun: list[WorkerActor] = []

    def begin(shell: str, drain_seconds: float = 30.0) -> WorkerActor:
        environment = {"HPO_SERVICE_RAY_ACTOR": "hpo-3f2a91c0-0", "HF_TOKEN": "hf_secret"}
        command = ("bash", "-c", shell)
        work = Work(
            "mine", SECRET, tmp_path, ("--idle-seconds", "5"), environment, "launch", "0", drain_seconds, command
        )
        begun.append(WorkerActor(work))
        return begun[-1]

    yield begin
    signal.signal(signal.SIGTERM, before)
    for each in begun:
        each.stop(now=True)
        each._thread.join(PATIENCE)


STAYS = 'trap "echo asked to leave; exit 0" USR1; echo ready; while :; do /bin/sleep 0.05; done'
PATIENCE = 30.0


def ready(actor: WorkerActor) -> None:
    """Wait until its worker is at work."""
    pause = threading.Event()
    while not any("ready" in line for line in actor.tail(5)):
        pause.wait(0.02)


def test_a_worker_that_has_nothing_left_to_do_ends_its_actor_for_good(begin: Begin, ray: StandIn) -> None:
    kept = begin('echo "$HPO_SERVICE_STORAGE|$HF_TOKEN|$*"; exit 0')
    assert ray.gone.wait(PATIENCE)
    assert ray.killed == ["itself"]
    assert kept.tail(5)[1:] == [f"{SECRET}|hf_secret|--study mine --until-finished --idle-seconds 5"]


def test_a_worker_that_dies_is_started_again_after_growing_pauses_but_not_for_ever(begin: Begin, ray: StandIn) -> None:
    kept = begin("echo ran; kill -9 $$")
    assert ray.gone.wait(PATIENCE)
    assert kept.tail(20)[1:] == ["ran"] * (1 + pool.MAX_RESTARTS)
    assert "worker 0 ended for good: was killed by SIGKILL" in kept.state()[2]


def test_a_worker_is_asked_to_leave_and_given_its_time(begin: Begin, ray: StandIn) -> None:
    kept = begin(STAYS)
    ready(kept)
    assert kept.state()[1] == "running"
    assert kept.stop() == STOPPED
    assert ray.gone.wait(PATIENCE)
    assert kept.tail(5)[1:] == ["ready", "asked to leave"]
    assert kept.state()[1] == "leaving"


@pytest.mark.parametrize("drain, now", [(0.01, False), (30.0, True)])
def test_a_worker_that_does_not_leave_in_time_is_ended(begin: Any, ray: StandIn, drain: float, now: bool) -> None:
    kept = begin('trap "" USR1; echo ready; while :; do /bin/sleep 0.05; done', drain)
    ready(kept)
    kept.stop(now)
    assert ray.gone.wait(PATIENCE)
    assert kept.tail(5)[1:] == ["ready"]


def test_where_its_node_is_taken_down_the_worker_saves_and_ray_starts_the_actor_elsewhere(
    begin: Begin, ray: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []

    def leave(status: int) -> None:
        left.append(status)
        ray.gone.set()

    monkeypatch.setattr(os, "_exit", leave)
    kept = begin(STAYS)
    ready(kept)
    signal.raise_signal(signal.SIGTERM)
    assert ray.gone.wait(PATIENCE)
    assert (left, ray.killed) == ([1], [])
    assert "asked to leave" in kept.tail(5)


def test_an_actor_that_cannot_start_its_worker_does_not_hold_its_gpu(
    begin: Begin, ray: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    (tmp_path / "logs").write_text("a file, not a folder")
    begin("exit 0")
    assert ray.gone.wait(PATIENCE)
    assert ray.killed == ["itself"]
