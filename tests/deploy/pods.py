"""Pods of a list of manifests, whatever holds them, and what each is asked of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpo_service.launch.kubernetes.manifest import SPARE_SECONDS

Manifest = dict[str, Any]
SECRETS = ("PASSWORD", "TOKEN", "STORAGE", "SECRET", "KEY")
"""Parts of names of variables that hold secrets."""


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Each pod's specification, under the name of what makes it."""
    for each in manifests:
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            yield f"{each['kind']} {each['metadata'].get('name', '')}", template["spec"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def require_hardened(name: str, pod: Manifest) -> None:
    """No root, nothing gained, nothing of the image written, limits on all."""
    own = pod["securityContext"]
    assert own["runAsNonRoot"] is True, name
    assert own["runAsUser"] > 0, name
    assert own["seccompProfile"] == {"type": "RuntimeDefault"}, name
    assert pod["automountServiceAccountToken"] is False, name
    for container in containers(pod):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), name
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name


def require_no_secret(name: str, pod: Manifest) -> None:
    """What holds a secret comes from a Secret, not from the manifest."""
    for container in containers(pod):
        for variable in container.get("env", ()):
            if any(part in variable["name"] for part in SECRETS):
                assert "secretKeyRef" in variable["valueFrom"], (name, variable["name"])
                assert "value" not in variable, (name, variable["name"])


def require_worker_job(job, *, gpus, resource="nvidia.com/gpu"):
    """All that keeps workers alive and lets them save."""
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    script = container["command"][-1]
    drain = float(script.split("--drain-seconds ")[1].split()[0])
    assert pod["terminationGracePeriodSeconds"] >= drain + SPARE_SECONDS
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    assert spec["backoffLimitPerIndex"] > 0
    ignored, told, no_use = spec["podFailurePolicy"]["rules"]
    assert ignored == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert told == {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [143]}}
    assert no_use["action"] == "FailJob"
    assert 9 not in no_use["onExitCodes"]["values"]  # a node on which nothing works: another one may do
    assert pod["restartPolicy"] == "Never"
    limits = container["resources"]["limits"]
    assert limits == container["resources"]["requests"]
    assert limits.get(resource, 0) == gpus
    assert [each["secretRef"]["name"] for each in container["envFrom"]]
