"""Workers as a Slurm job array: the batch script, its submission, and what Slurm says of it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from hpo_service.errors import OutOfTimeError, SchedulerError, UsageError
from hpo_service.launch.inherited import OWN_COMMAND
from hpo_service.launch.launch import Job, Launch
from hpo_service.launch.options import LaunchOptions, Line

ARRAY_SIZE = 1001
"""Tasks of an array where the site does not say: Slurm's own default."""
SPARE_SECONDS = 30
"""Between the end of a worker's time to save and the time limit, for what follows: its last word, the epilog."""
RESTARTS = 5
"""A worker that dies is started again so often by its own script; then its task has failed."""
COMMAND_SECONDS = 60.0
"""How long one of Slurm's commands may take."""


class SlurmOptions(LaunchOptions):
    """What may be asked of Slurm."""

    partition: Line | None = Field(default=None, description="Partition.")
    account: Line | None = Field(default=None, description="Account that is charged.")
    qos: Line | None = Field(default=None, description="Quality of service.")
    time: Line | None = Field(default=None, description="Time limit of a task, as Slurm writes it, e.g. 8:00:00.")
    gpus: str | None = Field(
        default=None,
        pattern=r"^([A-Za-z][\w.-]*:)?\d+$",
        description="GPUs of each worker, e.g. 1 or a100:1; by default what a trial needs, 0 for workers on CPUs.",
    )
    cpus: int | None = Field(default=None, ge=1, description="CPUs of each worker.")
    memory: str | None = Field(default=None, pattern=r"^\d+[KMGT]?$", description="Memory of each worker, e.g. 64G.")
    tasks: int = Field(default=1, ge=1, description="Workers of each array task, on one node; srun starts them.")
    container: Line | None = Field(default=None, description="Image for pyxis/enroot, in which workers run.")
    mounts: Line | None = Field(default=None, description="What the container sees, e.g. /shared:/shared.")
    apptainer: Line | None = Field(default=None, description="Image for apptainer, in which workers run.")
    setup: list[Line] = Field(
        default=[],
        description="Line of shell before the worker, e.g. `module load cuda` or `source /shared/venv/bin/activate`; "
        "may be repeated.",
    )
    command: Line | None = Field(
        default=None,
        description="How hpo-service is started there; by default as here, with --setup or an image `hpo-service`.",
    )
    sbatch: list[Line] = Field(default=[], description="Another #SBATCH line, e.g. --constraint=a100; may be repeated.")
    requeue: bool = Field(default=True, description="Have Slurm queue tasks again whose node fails or is taken.")
    signal_seconds: int | None = Field(
        default=None,
        ge=1,
        description=f"How long before the time limit workers save and leave; by default --drain-seconds and "
        f"{SPARE_SECONDS} more.",
    )

    @model_validator(mode="after")
    def _one_image(self) -> Self:
        if self.container and self.apptainer:
            raise ValueError("--container and --apptainer exclude each other: name the image that your site runs")
        if self.mounts and not self.container:
            raise ValueError("--mounts needs --container")
        if self.workers is not None and self.workers % self.tasks:
            raise ValueError(
                f"--workers must be a multiple of --tasks, {self.tasks}: each array task is so many workers"
            )
        return self


class Slurm:
    """The tasks of one launch. All its jobs bear its name, by which they are found again."""

    options: ClassVar[type[LaunchOptions]] = SlurmOptions
    title: ClassVar[str] = "Start workers as a Slurm job array."
    examples: ClassVar[tuple[str, ...]] = (
        "hpo-service launch slurm mine --workers 16 --partition gpu --time 8:00:00 --dry-run",
        "hpo-service launch slurm mine --max 16 --until-done --detach --account lab --gpus a100:1",
        "hpo-service launch slurm mine --workers 64 --container ghcr.io/lab/hpo:1 --mounts /shared:/shared",
    )
    keeps: ClassVar[bool] = False

    def __init__(self, launch: Launch[SlurmOptions]) -> None:
        """Take charge of a launch."""
        self._launch = launch
        self._options = launch.options

    @property
    def workers(self) -> int:
        """There is no number that suits every site."""
        raise UsageError("say how many workers Slurm is to start: --workers N")

    def plan(self, workers: int) -> str:
        """The batch scripts, one after the other; each goes to sbatch's standard input."""
        return "\n".join(self._script(part) for part in self._parts(workers))

    def submit(self, workers: int) -> list[str]:
        """Submit the arrays; return the numbers of their jobs."""
        self._launch.logs.mkdir(parents=True, exist_ok=True)
        self._launch.keep_secrets()
        submitted: list[str] = []
        try:
            for part in self._parts(workers):
                said = _ask("sbatch", "--parsable", given=self._script(part))
                submitted.append(said.strip().partition(";")[0])
        except SchedulerError:
            if submitted:  # all or none
                _ask("scancel", *submitted)
            raise
        return submitted

    def jobs(self) -> list[Job]:
        """Ask Slurm for the tasks that wait or run."""
        said = _ask(
            "squeue", "--noheader", "--array", f"--name={self._launch.name}", "--format=%i|%T|%N|%r", "--states=all"
        )
        found = [line.split("|", 3) for line in said.splitlines() if line.count("|") >= 3]
        return [
            Job(id, state.lower(), self._options.tasks, place, "" if why == "None" else why)
            for id, state, place, why in found
            if state in ALIVE
        ]

    def tick(self) -> list[str]:
        """Slurm looks after its tasks."""
        return []

    def withdraw(self, workers: int) -> int:
        """Cancel tasks that wait, the latest first."""
        waiting = [job for job in self.jobs() if job.state == "pending"]
        chosen = waiting[::-1][: workers // self._options.tasks]
        if chosen:
            _ask("scancel", *(job.id for job in chosen))
        return len(chosen) * self._options.tasks

    def logs(self, lines: int) -> Iterator[str]:
        """The last lines of each task's log."""
        return self._launch.tails(lines)

    def cancel(self, *, now: bool = False) -> None:
        """Cancel what waits, and have what runs save and leave."""
        name = f"--name={self._launch.name}"
        if now:
            _ask("scancel", name)
        else:
            _ask("scancel", "--state=PENDING", name)
            # to the script alone, which tells its workers; a task that ended meanwhile is no error
            _ask("scancel", "--quiet", "--signal=TERM", "--batch", "--state=RUNNING", name)
        self._launch.forget_secrets()

    def settle(self) -> None:
        """Remove the secrets."""
        self._launch.forget_secrets()

    @staticmethod
    def here(environment: Mapping[str, str]) -> str | None:
        """Name the task, and with several processes which one."""
        job = environment.get("SLURM_JOB_ID")
        if not job:
            return None
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        name = f"{array}_{task}" if array and task else job
        several = environment.get("SLURM_NTASKS", "1") != "1" and "SLURM_PROCID" in environment
        return f"slurm {name}.{environment['SLURM_PROCID']}" if several else f"slurm {name}"

    # --- the script --------------------------------------------------------------------------------------------

    def _parts(self, workers: int) -> list[int]:
        """Sizes of the arrays that so many workers take."""
        tasks, most = -(-workers // self._options.tasks), largest_array()
        return [min(most, tasks - first) for first in range(0, tasks, most)]

    def _script(self, tasks: int) -> str:
        directives = [f"#SBATCH {line}" for line in self._directives(tasks)]
        return "\n".join(["#!/bin/bash", *directives, *self._preparation(), _LOOP.format(**self._words())])

    def _directives(self, tasks: int) -> Iterator[str]:
        options, log = self._options, self._launch.logs / f"{self._launch.log_prefix}-%A_%a.log"
        yield f"--job-name={self._launch.name}"
        yield f"--array=0-{tasks - 1}"
        for name in ("partition", "account", "qos", "time"):
            value = getattr(options, name)
            if value is not None:
                yield f"--{name}={shlex.quote(value)}"
        yield "--nodes=1"
        yield f"--ntasks={options.tasks}"
        if options.cpus is not None:
            yield f"--cpus-per-task={options.cpus}"
        if options.memory is not None:
            number, unit = options.memory.rstrip("KMGT"), options.memory.lstrip("0123456789")
            yield f"--mem={int(number) * options.tasks}{unit}"
        if self._gpus:
            kind = (options.gpus or "").rpartition(":")[0]
            yield f"--gres=gpu:{f'{kind}:' if kind else ''}{self._gpus * options.tasks}"
        yield f"--output={shlex.quote(str(log).replace('%', '%%').replace('%%A_%%a', '%A_%a'))}"
        yield "--open-mode=append"
        yield f"--signal=B:USR1@{self._signal_seconds}"
        yield "--requeue" if options.requeue else "--no-requeue"
        yield from options.sbatch

    @property
    def _gpus(self) -> int:
        """GPUs of a worker."""
        asked = self._options.gpus
        return self._launch.gpus_per_trial if asked is None else int(asked.rpartition(":")[2])

    @property
    def _signal_seconds(self) -> int:
        return self._options.signal_seconds or int(self._options.drain_seconds) + SPARE_SECONDS

    def _preparation(self) -> Iterator[str]:
        yield "# the database's URL and tokens, which nobody else may read"
        yield f". {shlex.quote(str(self._launch.secret_file))} || exit 1"
        for name, value in self._launch.environment.items():
            yield f"export {name}={shlex.quote(value)}"
        yield from self._options.setup

    def _words(self) -> dict[str, object]:
        return {
            "worker": self._worker(),
            "signal_seconds": self._signal_seconds,
            "out_of_time": OutOfTimeError.exit_code,
            "requeue": int(self._options.requeue),
            "restarts": RESTARTS,
        }

    def _worker(self) -> str:
        """The command line of a worker, or of srun that starts them."""
        options = self._options
        own = not (options.setup or options.container or options.apptainer)
        program = options.command or (shlex.join(OWN_COMMAND) if own else "hpo-service")
        command = f"{program} {shlex.join(self._launch.worker)}"
        if options.apptainer:
            command = f"apptainer exec {'--nv ' if self._gpus else ''}{shlex.quote(options.apptainer)} {command}"
        if options.tasks == 1 and not options.container:
            return command
        image = [f"--container-image={options.container}"] if options.container else []
        mounts = [f"--container-mounts={options.mounts}"] if options.mounts else []
        srun = ["srun", f"--ntasks={options.tasks}", "--kill-on-bad-exit=0", *image, *mounts]
        return f"{shlex.join(srun)} bash -c {shlex.quote(f'{_PIN.format(gpus=self._gpus)}exec {command}')}"


ALIVE = {
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "REQUEUED",
    "SUSPENDED",
    "RESIZING",
    "SIGNALING",
    "STAGE_OUT",
}
"""States of tasks that have not ended, as Slurm calls them."""

_PIN = (
    'IFS=, read -ra all <<<"$CUDA_VISIBLE_DEVICES"; '
    "if (( ${{#all[@]}} == SLURM_NTASKS * {gpus} )); then "
    'mine=("${{all[@]:SLURM_LOCALID*{gpus}:{gpus}}}"); '
    'export CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${{mine[*]}}"); fi; '
)
"""Where all processes of a task see all its GPUs, each takes its share."""

_LOOP = """\
# when workers are to have left: some time before the time limit, if there is one
if end=$(date --date="$(squeue --noheader --job "$SLURM_JOB_ID" --format %e)" +%s 2>/dev/null); then
    export HPO_SERVICE_STOP_AT=$((end - {signal_seconds}))
fi
worker= leaving= again=
leave() {{
    leaving=1
    # USR1 asks a worker to save and leave, however often it comes; srun passes it on
    [ -z "$worker" ] || kill -s USR1 "$worker" 2>/dev/null
}}
trap 'again=1; leave' USR1 # Slurm's: the time limit is near
trap 'again=; leave' TERM
for ((pause = 1; ; pause *= 2)); do
    {worker} &
    worker=$!
    [ -z "$leaving" ] || leave
    while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
    wait "$worker"
    status=$?
    worker=
    [ -z "$leaving" ] && [ "$pause" -lt $((1 << {restarts})) ] || break
    # 0 to 11: the worker left on purpose; else it died, and is started again
    [ "$status" -gt 11 ] || [ "$status" = 5 ] || break
    echo "the worker ended with status $status: it is started again in $pause s"
    sleep "$pause"
done
[ "$status" != {out_of_time} ] || again=1
if [ "$again" ] && [ {requeue} = 1 ]; then
    echo "its time is up and the study goes on: the task is queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""
"""The rest of the script: it starts the worker, tells it to leave, and has the task queued again."""


def largest_array() -> int:
    """How many tasks an array may have at this site."""
    try:
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.MULTILINE)
    except SchedulerError:  # a machine without Slurm may show what would be submitted
        found = None
    return max(1, int(found[1])) if found else ARRAY_SIZE


def _ask(*command: str, given: str | None = None) -> str:
    """Run one of Slurm's commands; return what it says.

    Raises:
        SchedulerError: it is not there, refuses or does not answer.
    """
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
        )
    except FileNotFoundError:
        raise SchedulerError(
            f"Slurm's `{command[0]}` is not installed here: run this on a login node of the cluster, "
            "or see what would be submitted with --dry-run"
        ) from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"Slurm's `{command[0]}` has not answered for {COMMAND_SECONDS:g} s: try later") from None
    if done.returncode != 0:
        raise SchedulerError(f"Slurm refused ({shlex.join(command)}): {' '.join(done.stderr.split()) or 'no reason'}")
    return done.stdout
