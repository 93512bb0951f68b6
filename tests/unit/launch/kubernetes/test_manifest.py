"""The Job that workers are launched as: it outlives its nodes, and nobody reads a secret in it."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from hpo_service.errors import UsageError
from hpo_service.launch.kubernetes.manifest import JobManifest, KubernetesOptions, as_yaml
from hpo_service.launch.launch import Launch
from hpo_service.settings import Settings
from tests.deploy.pods import require_worker_job

SECRET = "postgresql://hpo:sesame@db/hpo"
CONFIGURATIONS = {
    "cpu": {"gpus": 0, "cpus": "2", "memory": "8Gi"},
    "gpus": {"gpus": 8, "claim": "hpo", "drain_seconds": 600, "node": ["gpu=h100"], "tolerate": ["nvidia.com/gpu"]},
    "kueue": {
        "gpus": 1,
        "gpu_resource": "nvidia.com/mig-1g.10gb",
        "queue": "research",
        "secret": "hpo-service",
        "priority_class": "low",
        "service_account": "hpo",
        "env": ["WANDB_MODE=offline"],
    },
}


def manifest(tmp_path, **asked):
    options = KubernetesOptions.read({"image": "hpo-worker:1", **asked})
    settings = Settings(storage=SECRET, output=Path("/hpo"), cache=tmp_path)
    return JobManifest(Launch("3f2a", "mine", options, settings))


@pytest.mark.parametrize("asked", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("release", ["1.33", "1.37"])
def test_each_configuration_is_valid_and_outlives_its_nodes(tmp_path, asked, release):
    made = manifest(tmp_path, **asked)
    job = YAML(typ="safe").load(as_yaml(made.job(3)))
    assert job == made.job(3)
    kubernetes_validate.validate(job | {"metadata": {"name": "x", **job["metadata"]}}, release, strict=True)
    require_worker_job(job, gpus=asked["gpus"], resource=asked.get("gpu_resource", "nvidia.com/gpu"))
    kubernetes_validate.validate(made.secret(), release, strict=True)


@pytest.mark.parametrize("asked", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_the_database_s_password_is_in_the_secret_alone(tmp_path, asked, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    made = manifest(tmp_path, **asked)
    assert "sesame" not in as_yaml(made.job(3))
    assert made.secret()["stringData"] == {"HPO_SERVICE_STORAGE": SECRET, "HF_TOKEN": "hf_sesame"}


def test_a_store_is_the_pod_s_too_and_its_credentials_are_in_the_secret_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HPO_SERVICE_STORE", "s3://bucket/hpo")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws sesame")
    made = manifest(tmp_path)
    (container,) = made.job(1)["spec"]["template"]["spec"]["containers"]
    assert {"name": "HPO_SERVICE_STORE", "value": "s3://bucket/hpo"} in container["env"]
    assert "sesame" not in as_yaml(made.job(1))
    assert made.secret()["stringData"]["AWS_SECRET_ACCESS_KEY"] == "aws sesame"


def test_folders_of_whoever_launches_are_none_of_the_pod_s(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", "/home/me/hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (container,) = manifest(tmp_path, claim="hpo").job(1)["spec"]["template"]["spec"]["containers"]
    seen = {each["name"]: each["value"] for each in container["env"]}
    assert seen["HF_HOME"] == "/hpo/huggingface"
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert seen["HPO_SERVICE_LAUNCH"] == "3f2a"


def test_checkpoints_without_a_claim_end_with_their_pod_and_hub_files_too(tmp_path):
    pod = manifest(tmp_path).job(1)["spec"]["template"]["spec"]
    assert {"name": "output", "emptyDir": {}} in pod["volumes"]
    assert {"name": "HF_HOME", "value": "/tmp/huggingface"} in pod["containers"][0]["env"]


@pytest.mark.parametrize(
    "asked, says", [({"image": ""}, "--image names the workers' image"), ({"node": ["h100"]}, "'h100' is no KEY=VALUE")]
)
def test_what_no_pod_could_be_made_of_is_refused(tmp_path, asked, says):
    with pytest.raises(UsageError, match=says):
        manifest(tmp_path, **asked)


# the script of a pod


@pytest.fixture
def pod(tmp_path):
    """Start a pod's script with a worker of the test's own."""

    def start(worker: str) -> subprocess.Popen[bytes]:
        program = tmp_path / "hpo-service"
        program.write_text(f"#!/bin/sh\n{worker}\n")
        program.chmod(0o755)
        (container,) = manifest(tmp_path).job(1)["spec"]["template"]["spec"]["containers"]
        return subprocess.Popen(container["command"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, cwd=tmp_path)

    return start


@pytest.mark.parametrize("status", [0, 7, 9])
def test_a_worker_that_ends_by_itself_gives_the_pod_its_status(pod, status):
    assert pod(f"exit {status}").wait(20) == status


@pytest.mark.parametrize("left, status", [(0, 143), (9, 9)])
def test_a_worker_that_was_told_to_leave_is_no_index_that_is_done(pod, tmp_path, left, status):
    running = pod(f"trap 'sleep 0.2; echo saved >saved; exit {left}' TERM; echo >there; while :; do sleep 0.05; done")
    deadline = time.monotonic() + 20
    while not (tmp_path / "there").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == status
    assert (tmp_path / "saved").read_text() == "saved\n"
