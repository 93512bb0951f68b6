"""What the launcher tells kubectl, and what it makes of the answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from hpo_service.errors import SchedulerError, UsageError
from hpo_service.launch.kubernetes import launcher as kubernetes
from hpo_service.launch.kubernetes.launcher import Kubernetes
from hpo_service.launch.launch import Launch
from hpo_service.launch.launcher import LAUNCHERS, job_here
from hpo_service.settings import Settings


class Cluster:
    """A cluster that only knows what it is told to know."""

    def __init__(self):
        self.told = []
        self.given = []
        self.items = {"pods": [], "jobs": []}

    def kubectl(self, *arguments, given=None):
        self.told.append(arguments)
        self.given.append(given)
        if arguments[0] == "get":
            return json.dumps({"items": self.items[arguments[1]]})
        return "job.batch/hpo-1-x7k2p\n" if arguments[0] == "create" else "first line\nsecond line\n"

    def add_pod(self, job, index, phase, **status):
        marks = {
            "name": f"{job}-{index}",
            "labels": {"batch.kubernetes.io/job-name": job},
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
        }
        node = {"nodeName": "n1"} if phase == "Running" else {}
        self.items["pods"].append({"metadata": marks, "spec": node, "status": {"phase": phase, **status}})

    def add_job(self, name, size, created="1", **spec):
        marks = {"name": name, "creationTimestamp": created}
        self.items["jobs"].append({"metadata": marks, "spec": {"completions": size, "parallelism": size, **spec}})


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()
    monkeypatch.setattr(kubernetes, "kubectl", cluster.kubectl)
    return cluster


def launcher(tmp_path, **asked):
    options = Kubernetes.options.read({"image": "hpo-worker:1", **asked})
    settings = Settings(storage="postgresql://hpo:sesame@db/hpo", output=Path("/hpo"), cache=tmp_path)
    return Kubernetes(Launch("1", "mine", options, settings))


def test_it_is_a_row_of_the_table():
    assert LAUNCHERS["kubernetes"] is Kubernetes


def test_what_is_shown_is_what_is_created_and_the_secret_goes_to_the_cluster_alone(cluster, tmp_path):
    ours = launcher(tmp_path, namespace="lab", context="big")
    assert ours.submit(3) == ["hpo-1-x7k2p"]
    secret, job = cluster.given
    assert json.loads(secret)["stringData"]["HPO_SERVICE_STORAGE"] == "postgresql://hpo:sesame@db/hpo"
    shown = ours.plan(3)
    assert shown == f"# beside it: hpo-1, a Secret of HPO_SERVICE_STORAGE\n{job}"
    assert "sesame" not in shown
    assert YAML(typ="safe").load(job)["spec"]["completions"] == 3
    assert all(told[-2:] == ("--namespace=lab", "--context=big") for told in cluster.told)


def test_a_secret_that_is_there_is_used_and_none_is_made(cluster, tmp_path):
    ours = launcher(tmp_path, secret="theirs")
    ours.submit(1)
    assert [told[0] for told in cluster.told] == ["create"]
    assert ours.plan(1) == cluster.given[0]


def test_a_number_of_workers_must_be_given(tmp_path):
    with pytest.raises(UsageError, match="--workers N"):
        _ = launcher(tmp_path).workers


def test_jobs_are_pods_that_run_or_wait_with_the_reason_and_jobs_that_are_held(cluster, tmp_path):
    cluster.add_job("held", 4, suspend=True)
    cluster.add_job("a", 3)
    cluster.add_pod("a", 0, "Running")
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/9 nodes:\n no gpu"}
    cluster.add_pod("a", 1, "Pending", conditions=[unscheduled])
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    cluster.add_pod("a", 2, "Pending", containerStatuses=[waiting])
    cluster.add_pod("a", 3, "Succeeded")
    found = launcher(tmp_path).jobs()
    assert [(job.id, job.state, job.workers, job.place) for job in found] == [
        ("held", "suspended", 4, ""),
        ("a-0", "running", 1, "n1"),
        ("a-1", "pending", 1, ""),
        ("a-2", "pending", 1, ""),
    ]
    assert [job.detail for job in found[2:]] == [": 0/9 nodes: no gpu", "ImagePullBackOff: no such image"]


def test_only_indexes_that_have_not_started_are_taken_back_the_latest_job_first(cluster, tmp_path):
    cluster.add_job("early", 3, "2026-01-01")
    cluster.add_job("late", 2, "2026-01-02")
    for index, phase in enumerate(("Running", "Pending", "Pending")):
        cluster.add_pod("early", index, phase)
    assert launcher(tmp_path).withdraw(3) == 3
    deleted, patched = [told for told in cluster.told if told[0] in ("delete", "patch")]
    assert deleted[:3] == ("delete", "job", "late")
    assert patched[2:4] == ("early", '--patch={"spec": {"completions": 2, "parallelism": 2}}')


def test_a_worker_that_runs_is_not_taken_back(cluster, tmp_path):
    cluster.add_job("a", 2)
    cluster.add_pod("a", 0, "Pending")
    cluster.add_pod("a", 1, "Running")
    assert launcher(tmp_path).withdraw(2) == 0
    assert [told[0] for told in cluster.told] == ["get", "get"]


@pytest.mark.parametrize("now, commands", [(False, ["jobs,secrets"]), (True, ["jobs,secrets", "pods"])])
def test_cancel_deletes_all_that_bears_the_launch_s_label(cluster, tmp_path, now, commands):
    launcher(tmp_path).cancel(now=now)
    assert [told[1] for told in cluster.told] == commands
    assert all("--selector=hpo-service/launch=1" in told for told in cluster.told)
    assert ("--grace-period=0" in cluster.told[-1]) is now


def test_when_the_study_has_ended_the_secret_that_was_made_goes_and_nobody_else_s(cluster, tmp_path):
    launcher(tmp_path, secret="theirs").settle()
    assert cluster.told == []
    launcher(tmp_path).settle()
    assert cluster.told[0][:3] == ("delete", "secrets", "--selector=hpo-service/launch=1")


def test_logs_are_the_last_lines_of_each_pod(cluster, tmp_path):
    assert list(launcher(tmp_path).logs(2)) == ["first line", "second line"]
    assert "--tail=2" in cluster.told[0]


def test_a_pod_knows_its_name():
    seen = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3", "HOSTNAME": "hpo-1-x7k2p-3"}
    assert job_here(seen) == "kubernetes hpo-1-x7k2p-3"
    assert job_here({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) is None


def answer(monkeypatch, *, status=0, out="", err="", error=None):
    def run(command, **_):
        if error is not None:
            raise error
        return subprocess.CompletedProcess(command, status, out, err)

    monkeypatch.setattr(subprocess, "run", run)


def test_what_the_cluster_refuses_is_told_in_one_line(monkeypatch):
    answer(monkeypatch, status=1, err="Error from server (Forbidden):\n jobs.batch is forbidden")
    with pytest.raises(SchedulerError, match=r"refused \(kubectl create\): Error from server .* is forbidden"):
        kubernetes.kubectl("create")
    answer(monkeypatch, out="fine")
    assert kubernetes.kubectl("create") == "fine"


@pytest.mark.parametrize(
    "error, says",
    [
        (FileNotFoundError(), "kubectl is not installed here: run this where it is"),
        (subprocess.TimeoutExpired("kubectl", 60), "has not answered for 60 s"),
    ],
)
def test_a_kubectl_that_is_not_there_or_hangs_is_told(monkeypatch, error, says):
    answer(monkeypatch, error=error)
    with pytest.raises(SchedulerError, match=says):
        kubernetes.kubectl("get")
