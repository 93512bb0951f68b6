"""An indexed Kubernetes Job of workers, and the Secret that they read, as manifests."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator
from ruamel.yaml import YAML

from hpo_service.errors import (
    AccessError,
    ConflictError,
    DatabaseFaultError,
    NotFoundError,
    SchemaError,
    ServedStudyFailedError,
    UsageError,
)
from hpo_service.launch.launch import Launch
from hpo_service.launch.options import LaunchOptions, Line

LAUNCH_LABEL = "hpo-service/launch"
"""Label by which all of a launch is found again."""
SPARE_SECONDS = 30
"""Between the end of a worker's time to save and the cluster's own kill."""
RESTARTS = 5
"""A worker that dies is started again so often; then its index has failed. Nodes that were taken do not count."""
KEPT_SECONDS = 86_400
"""How long an ended Job is kept, for its logs."""
USER = 1000
"""User and group of the image, and of what workers write."""
NO_USE = tuple(
    sorted(
        kind.exit_code
        for kind in (
            UsageError,
            NotFoundError,
            ConflictError,
            SchemaError,
            ServedStudyFailedError,
            DatabaseFaultError,
            AccessError,
        )
    )
)
"""Statuses of workers that end in the same way wherever they are started again: the whole Job has failed."""
TOLD = 143
"""Status of a worker that was told to leave: as if SIGTERM had ended it."""
SCRATCH = "/tmp"  # noqa: S108
"""Folder of a pod's own, which it may write to; its file system is read-only elsewhere."""

SCRIPT = """\
told=
leave() {{ told=1; kill -s TERM "$worker"; }}
trap leave TERM
{command} & worker=$!
if [ -n "$told" ]; then leave; fi
wait "$worker"; status=$?
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; status=$?; done
# status 0 would say that this index is done, though its node was taken while there is more to do
if [ -n "$told" ] && [ "$status" = 0 ]; then status={told}; fi
exit "$status"
"""
"""What a pod runs: a worker, and the word whether it ended by itself."""


class KubernetesOptions(LaunchOptions):
    """What may be asked of Kubernetes."""

    image: Line = Field(default="", description="Image of the workers, see deploy/docker/worker.Dockerfile.")
    namespace: Line | None = Field(default=None, description="Namespace; by default kubectl's own.")
    context: Line | None = Field(default=None, description="Cluster, as kubectl calls it; by default its current one.")
    gpus: int | None = Field(
        default=None, ge=0, description="GPUs of each worker; by default what a trial needs, 0 for workers on CPUs."
    )
    gpu_resource: Line = Field(
        default="nvidia.com/gpu", description="What the cluster calls a GPU, e.g. nvidia.com/mig-1g.10gb for a slice."
    )
    cpus: Line = Field(default="4", description="CPUs of each worker.")
    memory: Line = Field(default="32Gi", description="Memory of each worker.")
    claim: Line | None = Field(
        default=None,
        description="Volume claim that all nodes can write, mounted at --output; without one checkpoints end with "
        "their pod.",
    )
    secret: Line | None = Field(
        default=None,
        description="Secret with HPO_SERVICE_STORAGE and, if needed, HF_TOKEN; by default one is made of what is set "
        "here, and deleted by `launch cancel`.",
    )
    queue: Line | None = Field(default=None, description="Kueue's local queue, which admits the Job.")
    priority_class: Line | None = Field(default=None, description="Priority class of the pods.")
    service_account: Line | None = Field(default=None, description="Service account of the pods.")
    node: list[Line] = Field(default=[], description="KEY=VALUE that a node's label must be; may be repeated.")
    tolerate: list[Line] = Field(default=[], description="Key of a taint that is no obstacle; may be repeated.")
    env: list[Line] = Field(default=[], description="NAME=VALUE of a variable, not a secret; may be repeated.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.image:
            raise ValueError("--image names the workers' image: build one with deploy/docker/worker.Dockerfile")
        for pair in (*self.node, *self.env):
            if not re.match(r"[^=\s]+=", pair):
                raise ValueError(f"{pair!r} is no KEY=VALUE")
        return self


@dataclass(frozen=True)
class JobManifest:
    """What is submitted for one launch."""

    launch: Launch[KubernetesOptions]

    @property
    def secret_name(self) -> str:
        """The Secret that workers read."""
        return self._options.secret or self.launch.name

    @property
    def _options(self) -> KubernetesOptions:
        return self.launch.options

    def secret(self) -> dict[str, Any]:
        """The Secret, made of what is set here: for the cluster alone."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self.secret_name, **self._marks()},
            "stringData": self.launch.secrets,
        }

    def job(self, workers: int) -> dict[str, Any]:
        """The Job of so many workers."""
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"generateName": f"{self.launch.name}-", **self._marks(queued=True)},
            "spec": {
                "completionMode": "Indexed",
                "completions": workers,
                "parallelism": workers,
                **({"suspend": True} if self._options.queue else {}),
                "backoffLimitPerIndex": RESTARTS,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {
                    "rules": [
                        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [TOLD]}},
                        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": list(NO_USE)}},
                    ]
                },
                "ttlSecondsAfterFinished": KEPT_SECONDS,
                "template": {"metadata": self._marks(), "spec": self._pod()},
            },
        }

    def _marks(self, *, queued: bool = False) -> dict[str, Any]:
        labels = {
            "app.kubernetes.io/name": "hpo-service",
            "app.kubernetes.io/component": "worker",
            LAUNCH_LABEL: self.launch.id,
        }
        if queued and self._options.queue:
            labels["kueue.x-k8s.io/queue-name"] = self._options.queue
        return {"labels": labels, "annotations": {"hpo-service/study": self.launch.study}}

    def _pod(self) -> dict[str, Any]:
        options = self._options
        claim = {"persistentVolumeClaim": {"claimName": options.claim}} if options.claim else {"emptyDir": {}}
        optional = {
            "priorityClassName": options.priority_class,
            "serviceAccountName": options.service_account,
            "nodeSelector": dict(pair.split("=", 1) for pair in options.node),
            "tolerations": [{"key": key, "operator": "Exists"} for key in options.tolerate],
        }
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": int(options.drain_seconds) + SPARE_SECONDS,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **{name: value for name, value in optional.items() if value},
            "containers": [self._container()],
            "volumes": [
                {"name": "output", **claim},
                {"name": "scratch", "emptyDir": {}},
                # processes of a trial on several GPUs, and data loaders, share memory there
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
            ],
        }

    def _container(self) -> dict[str, Any]:
        options = self._options
        gpus = self.launch.gpus_per_trial if options.gpus is None else options.gpus
        wanted = {"cpu": options.cpus, "memory": options.memory, **({options.gpu_resource: gpus} if gpus else {})}
        return {
            "name": "worker",
            "image": options.image,
            "command": ["sh", "-c", self._script()],
            "env": [{"name": name, "value": value} for name, value in self._environment().items()],
            "envFrom": [{"secretRef": {"name": self.secret_name}}],
            "resources": {"requests": wanted, "limits": wanted},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "output", "mountPath": str(self.launch.settings.output)},
                {"name": "scratch", "mountPath": SCRATCH},
                {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
            ],
        }

    def _script(self) -> str:
        return SCRIPT.format(command=shlex.join(["hpo-service", *self.launch.worker]), told=TOLD)

    def _environment(self) -> dict[str, str]:
        """Variables of a worker; folders of this machine's user are none of the pod's."""
        output = self.launch.settings.output
        given = {name: value for name, value in self.launch.environment.items() if name not in _OWN_FOLDERS}
        hub = f"{output}/huggingface" if self._options.claim else f"{SCRATCH}/huggingface"
        folders = {"HOME": SCRATCH, "HPO_SERVICE_CACHE": f"{SCRATCH}/cache", "HF_HOME": hub}
        return {**given, **folders, **dict(pair.split("=", 1) for pair in self._options.env)}


_OWN_FOLDERS = ("HPO_SERVICE_CACHE", "HF_HOME")


def as_yaml(manifest: Mapping[str, Any]) -> str:
    """A manifest as people read it; scripts keep their lines."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.representer.add_representer(str, _literal)
    yaml.representer.ignore_aliases = lambda _: True
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(manifest, stream)
    return stream.getvalue()


def _literal(representer: Any, text: str) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
