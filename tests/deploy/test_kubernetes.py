"""The manifests that people apply: valid, hardened, and those that the launcher makes."""

from __future__ import annotations

import os
import shutil
import subprocess

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from hpo_service.launch.kubernetes.manifest import LAUNCH_LABEL, JobManifest, KubernetesOptions
from hpo_service.launch.launch import LAUNCH, Launch
from hpo_service.settings import Settings
from tests.deploy.conftest import ROOT
from tests.deploy.pods import pods, require_hardened, require_no_secret, require_worker_job

CONFIGURATIONS = {
    "cpu": {"PersistentVolumeClaim", "Service", "Deployment", "StatefulSet", "CronJob", "Job"},
    "gpu": {"PersistentVolumeClaim", "Service", "Deployment", "StatefulSet", "CronJob", "Job"},
    "kueue": {"PersistentVolumeClaim", "Job"},
}
OLDEST, NEWEST = "1.33", "1.37"
"""Releases of Kubernetes: `backoffLimitPerIndex` is final from 1.33 on."""
BASES = sorted((ROOT / "deploy/kubernetes/base").glob("*/[!k]*.yaml"))


def read(text):
    return [dict(each) for each in YAML(typ="safe").load_all(text)]


@pytest.fixture(params=CONFIGURATIONS)
def configuration(request):
    """Name and manifests of one configuration, as `kubectl apply -k` would send them."""
    if shutil.which("kubectl") is None:
        reason = "no kubectl, which builds the overlays; the files themselves are checked by other tests"
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(reason)
        pytest.skip(reason)
    folder = ROOT / "deploy/kubernetes/overlays" / request.param
    built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
    return request.param, read(built.stdout)


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
def test_each_configuration_is_valid_and_whole(configuration, release):
    name, manifests = configuration
    assert {each["kind"] for each in manifests} == CONFIGURATIONS[name]
    for each in manifests:
        kubernetes_validate.validate(each, release, strict=True)


def test_each_pod_is_hardened_and_has_no_secret_in_plain_text(configuration):
    name, manifests = configuration
    found = dict(pods(manifests))
    assert len(found) == (1 if name == "kueue" else 4)
    assert "Secret" not in {each["kind"] for each in manifests}
    for pod, spec in found.items():
        require_hardened(pod, spec)
        require_no_secret(pod, spec)
        assert all(":" in container["image"] for container in spec["containers"]), pod


def test_workers_of_each_configuration_survive_their_nodes(configuration):
    name, manifests = configuration
    (job,) = [each for each in manifests if each["kind"] == "Job"]
    require_worker_job(job, gpus=0 if name == "cpu" else 1)
    assert job["spec"].get("suspend", False) is (name == "kueue")
    assert ("kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]) is (name == "kueue")


@pytest.mark.parametrize("file", BASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_file_is_valid_by_itself(file):
    for manifest in read(file.read_text()):
        assert kubernetes_validate.validate(manifest, NEWEST, strict=True) == NEWEST


def test_the_workers_are_what_the_launcher_makes(deploy, tmp_path):
    (kept,) = read((deploy / "kubernetes/base/workers/workers.yaml").read_text())
    options = KubernetesOptions.read({"image": "hpo-worker", "gpus": 1, "secret": "hpo-service", "claim": "hpo-output"})
    settings = Settings(storage="", output=type(tmp_path)("/hpo"), cache=tmp_path)
    made = JobManifest(Launch("1", "mine", options, settings)).job(4)
    assert kept["metadata"].pop("name") == "hpo-workers"
    assert made["metadata"].pop("generateName") == "hpo-1-"
    for marks in (made["metadata"], made["spec"]["template"]["metadata"]):
        assert marks["labels"].pop(LAUNCH_LABEL) == "1"
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["env"] = [each for each in container["env"] if each["name"] not in (LAUNCH, "HF_HUB_OFFLINE")]
    assert kept == made
