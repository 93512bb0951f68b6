"""Workers as an indexed Kubernetes Job: its submission with kubectl, and what the cluster says of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from hpo_service.errors import SchedulerError, UsageError
from hpo_service.launch.kubernetes.manifest import LAUNCH_LABEL, JobManifest, KubernetesOptions, as_yaml
from hpo_service.launch.launch import Job, Launch
from hpo_service.launch.options import LaunchOptions

COMMAND_SECONDS = 60.0
"""How long kubectl may take."""


class Kubernetes:
    """The Jobs of one launch; all that belongs to it bears its label."""

    options: ClassVar[type[LaunchOptions]] = KubernetesOptions
    title: ClassVar[str] = "Start workers as an indexed Kubernetes Job."
    examples: ClassVar[tuple[str, ...]] = (
        "hpo-service launch kubernetes mine --workers 16 --image lab/hpo-worker:1 --claim hpo --output /hpo --dry-run",
        "hpo-service launch kubernetes mine --max 16 --until-done --image lab/hpo-worker:1 --queue research",
    )
    keeps: ClassVar[bool] = False

    def __init__(self, launch: Launch[KubernetesOptions]) -> None:
        """Take charge of a launch."""
        self._launch = launch
        self._options = launch.options
        self._manifest = JobManifest(launch)

    @property
    def workers(self) -> int:
        """There is no number that suits every cluster."""
        raise UsageError("say how many workers Kubernetes is to start: --workers N")

    def plan(self, workers: int) -> str:
        """The manifest of the Job, as YAML; it goes to `kubectl create`."""
        keys = ", ".join(self._launch.secrets)
        made = "" if self._options.secret else f"# beside it: {self._manifest.secret_name}, a Secret of {keys}\n"
        return made + as_yaml(self._manifest.job(workers))

    def submit(self, workers: int) -> list[str]:
        """Create the Job, and before it the Secret that it reads; return its name."""
        if self._options.secret is None:
            self._kubectl("apply", "--filename=-", given=json.dumps(self._manifest.secret()))
        said = self._kubectl("create", "--filename=-", "--output=name", given=as_yaml(self._manifest.job(workers)))
        return [said.strip().rpartition("/")[2]]

    def jobs(self) -> list[Job]:
        """The pods that run or wait, and Jobs that wait to be admitted."""
        pods = [pod for pod in self._found("pods") if pod["status"].get("phase") in ("Pending", "Running")]
        held = [each for each in self._found("jobs") if each["spec"].get("suspend")]
        return [
            *(Job(each["metadata"]["name"], "suspended", each["spec"]["parallelism"]) for each in held),
            *(
                Job(
                    pod["metadata"]["name"],
                    pod["status"]["phase"].lower(),
                    place=pod["spec"].get("nodeName", ""),
                    detail=_why(pod["status"]),
                )
                for pod in pods
            ),
        ]

    def tick(self) -> list[str]:
        """Kubernetes looks after its pods."""
        return []

    def withdraw(self, workers: int) -> int:
        """Shorten Jobs by their last indexes, as far as those have not started; the latest Job first."""
        left = workers
        started = {_place(pod) for pod in self._found("pods") if pod["status"].get("phase") != "Pending"}
        for job in sorted(self._found("jobs"), key=lambda each: str(each["metadata"]["creationTimestamp"]))[::-1]:
            name, size = job["metadata"]["name"], int(job["spec"]["completions"])
            keep = size
            while keep > max(0, size - left) and (name, keep - 1) not in started:
                keep -= 1
            if keep == 0:
                self._kubectl("delete", "job", name, "--wait=false")
            elif keep < size:
                smaller = json.dumps({"spec": {"completions": keep, "parallelism": keep}})
                self._kubectl("patch", "job", name, f"--patch={smaller}")
            left -= size - keep
        return workers - left

    def logs(self, lines: int) -> Iterator[str]:
        """The last lines of each pod, each behind the pod's name."""
        said = self._kubectl("logs", self._selector, f"--tail={lines}", "--prefix", "--max-log-requests=1000")
        return iter(said.splitlines())

    def cancel(self, *, now: bool = False) -> None:
        """Delete the Jobs: their pods are told to leave, and have their grace period to save."""
        self._kubectl("delete", "jobs,secrets", self._selector, "--wait=false")
        if now:
            self._kubectl("delete", "pods", self._selector, "--wait=false", "--grace-period=0", "--force")

    def settle(self) -> None:
        """Delete the Secret; ended Jobs go by themselves."""
        if self._options.secret is None:
            self._kubectl("delete", "secrets", self._selector, "--wait=false")

    @staticmethod
    def here(environment: Mapping[str, str]) -> str | None:
        """Name the pod."""
        if "KUBERNETES_SERVICE_HOST" not in environment or "JOB_COMPLETION_INDEX" not in environment:
            return None
        return f"kubernetes {environment.get('HOSTNAME', '')}"

    @property
    def _selector(self) -> str:
        return f"--selector={LAUNCH_LABEL}={self._launch.id}"

    def _found(self, kind: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self._kubectl("get", kind, self._selector, "--output=json"))["items"]
        return items

    def _kubectl(self, *arguments: str, given: str | None = None) -> str:
        options = self._options
        where = [
            *((f"--namespace={options.namespace}",) if options.namespace else ()),
            *((f"--context={options.context}",) if options.context else ()),
        ]
        return kubectl(*arguments, *where, given=given)


def _place(pod: Mapping[str, Any]) -> tuple[str, int]:
    """The Job of a pod, and its index in it."""
    marks = pod["metadata"]
    return marks["labels"]["batch.kubernetes.io/job-name"], int(
        marks["annotations"]["batch.kubernetes.io/job-completion-index"]
    )


def _why(status: Mapping[str, Any]) -> str:
    """Why a pod does not run: what its container waits for, or what its scheduling wants."""
    waiting = [each["state"]["waiting"] for each in status.get("containerStatuses", ()) if "waiting" in each["state"]]
    wanted = [each for each in status.get("conditions", ()) if each["status"] == "False" and each.get("message")]
    found = next((f"{each.get('reason', '')}: {each.get('message', '')}" for each in [*waiting, *wanted]), "")
    return " ".join(found.split())


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Run kubectl; return what it says.

    Raises:
        SchedulerError: it is not there, refuses or does not answer.
    """
    try:
        done = subprocess.run(
            ["kubectl", *arguments], input=given, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
        )
    except FileNotFoundError:
        raise SchedulerError(
            "kubectl is not installed here: run this where it is, or see what would be submitted with --dry-run"
        ) from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(
            f"kubectl has not answered for {COMMAND_SECONDS:g} s: see `kubectl cluster-info`"
        ) from None
    if done.returncode != 0:
        reason = " ".join(done.stderr.split()) or "no reason"
        raise SchedulerError(f"Kubernetes refused (kubectl {arguments[0]}): {reason}")
    return done.stdout
