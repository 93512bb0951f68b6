"""Workers as a Slurm array: what the batch script says, and what it does when it is run."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo_service.errors import SchedulerError, UsageError
from hpo_service.launch import slurm
from hpo_service.launch.inherited import CREDENTIALS, PASSED_ON
from hpo_service.launch.launch import Launch
from hpo_service.launch.slurm import Slurm, SlurmOptions
from hpo_service.settings import Settings

SECRET = "postgresql://me:pass word'@db/studies"
Make = Callable[..., Slurm]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(slurm, "largest_array", lambda: 1001)
    for name in (*PASSED_ON, *CREDENTIALS):
        monkeypatch.delenv(name, raising=False)

    def make(each: int = 1, study: str = "mine", **options: Any) -> Slurm:
        settings = Settings(SECRET, tmp_path / "out", tmp_path / "cache")
        return Slurm(Launch("3f2a91c0", study, SlurmOptions.read(options), settings, each))

    return make


def directives(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


def test_the_array_asks_for_what_was_asked_for(make: Make, tmp_path: Path) -> None:
    plan = make(
        partition="gpu", account="lab", qos="low", time="8:00:00", gpus="a100:1", cpus=8, memory="64G",
        sbatch=["--constraint=nvlink", "--exclude=n7"], requeue=False,
    ).plan(16)  # fmt: skip
    assert directives(plan) == [
        "--job-name=hpo-3f2a91c0",
        "--array=0-15",
        "--partition=gpu",
        "--account=lab",
        "--qos=low",
        "--time=8:00:00",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=8",
        "--mem=64G",
        "--gres=gpu:a100:1",
        f"--output={tmp_path}/out/logs/launch-3f2a91c0-%A_%a.log",
        "--open-mode=append",
        "--signal=B:USR1@120",
        "--no-requeue",
        "--constraint=nvlink",
        "--exclude=n7",
    ]


@pytest.mark.parametrize("drain, given, seconds", [(90.0, None, 120), (600.0, None, 630), (90.0, 300, 300)])
def test_the_signal_comes_early_enough_to_save(make: Make, drain: float, given: int | None, seconds: int) -> None:
    plan = make(drain_seconds=drain, signal_seconds=given).plan(1)
    assert f"--signal=B:USR1@{seconds}" in directives(plan)
    assert f"HPO_SERVICE_STOP_AT=$((end - {seconds}))" in plan
    assert f"--drain-seconds {drain:g}" in plan


def test_what_a_trial_needs_is_asked_for_and_several_workers_multiply_it(make: Make) -> None:
    assert "--gres=gpu:4" in directives(make(each=4).plan(1))
    assert not [line for line in directives(make(gpus="0").plan(1)) if "gres" in line]
    of_eight = make(gpus="a100:1", tasks=8, memory="64G").plan(16)
    assert {"--array=0-1", "--ntasks=8", "--gres=gpu:a100:8", "--mem=512G"} <= set(directives(of_eight))
    assert "srun --ntasks=8 --kill-on-bad-exit=0 bash -c " in of_eight


def test_arrays_larger_than_the_sites_limit_are_split(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "largest_array", lambda: 10)
    arrays = [line for line in directives(make().plan(25)) if line.startswith("--array")]
    assert arrays == ["--array=0-9", "--array=0-9", "--array=0-4"]


@pytest.mark.parametrize(
    "options, command",
    [
        ({}, f"{slurm.OWN_COMMAND[0]} -m hpo_service worker --study mine --until-finished --drain-seconds 90 &"),
        ({"setup": ["source /shared/venv/bin/activate"]}, "hpo-service worker --study mine "),
        ({"command": "uv run hpo-service"}, "uv run hpo-service worker --study mine "),
        ({"apptainer": "/shared/hpo.sif"}, "apptainer exec --nv /shared/hpo.sif hpo-service worker --study mine "),
        (
            {"container": "lab/hpo:1", "mounts": "/shared:/shared"},
            "srun --ntasks=1 --kill-on-bad-exit=0 --container-image=lab/hpo:1 --container-mounts=/shared:/shared bash ",
        ),
    ],
)
def test_workers_run_where_the_site_has_them_run(make: Make, options: dict[str, Any], command: str) -> None:
    assert f"\n    {command}" in make(**options).plan(1)


def test_no_secret_is_in_the_script_and_the_file_that_has_them_is_its_owners(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    launched = make()
    plan = launched.plan(4)
    file = launched._launch.keep_secrets()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "pass word" not in plan
    assert "hf_secret" not in plan
    assert f". {file}" in plan
    read = f'. {file} && printf "%s|%s" "$HPO_SERVICE_STORAGE" "$HF_TOKEN"'
    said = subprocess.run(["bash", "-c", read], capture_output=True, text=True, check=True, env={})
    assert said.stdout == f"{SECRET}|hf_secret"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sbatch": ["--a\n#SBATCH --b"]}, "--sbatch: it must be one line"),
        ({"workers": 0}, "--workers: "),
        ({"time": "1:00", "container": "a", "apptainer": "b"}, "--container and --apptainer exclude each other"),
        ({"mounts": "/a:/a"}, "--mounts needs --container"),
        ({"gpus": "a100"}, "--gpus: "),
        ({"memory": "1.5T"}, "--memory: "),
        ({"workers": 9, "tasks": 8}, "--workers must be a multiple of --tasks, 8"),
        ({"max_cost": 5.0}, "--max-cost needs --price-per-hour"),
        ({"unheard": 1}, "--unheard: "),
    ],
)
def test_options_that_cannot_be_meant_are_refused_by_their_names(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SlurmOptions.read(options)


def test_the_number_of_workers_must_be_said(make: Make) -> None:
    with pytest.raises(UsageError, match="--workers N"):
        _ = make().workers


def test_where_there_is_no_slurm_one_line_says_what_to_do(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SchedulerError, match="`sbatch` is not installed here: run this on a login node"):
        make().submit(1)
    with pytest.raises(SchedulerError, match="`squeue` is not installed"):
        make().jobs()


def test_arrays_are_submitted_all_or_none(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def ask(*command: str, given: str | None = None) -> str:
        asked.append(command)
        if len([each for each in asked if each[0] == "sbatch"]) == 3:
            raise SchedulerError("Slurm refused: QOSMaxSubmitJobPerUserLimit")
        return f"{16 + len(asked)};cluster\n"

    monkeypatch.setattr(slurm, "_ask", ask)
    monkeypatch.setattr(slurm, "largest_array", lambda: 2)
    assert make().submit(4) == ["17", "18"]
    asked.clear()
    with pytest.raises(SchedulerError, match="QOSMaxSubmit"):
        make().submit(6)
    assert asked[-1] == ("scancel", "17", "18")


def test_what_slurm_lists_is_told_by_state_and_place(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "17_0|RUNNING|n1|None\n17_1|PENDING||(Resources)\n17_2|COMPLETED|n1|None\n"
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(slurm, "_ask", lambda *command, **_: asked.append(command) or said)
    launched = make(tasks=2)
    assert [(job.id, job.state, job.workers, job.place, job.detail) for job in launched.jobs()] == [
        ("17_0", "running", 2, "n1", ""),
        ("17_1", "pending", 2, "", "(Resources)"),
    ]
    assert launched.withdraw(3) == 2
    assert asked[-1] == ("scancel", "17_1")


# what the script does


@pytest.fixture
def script(make: Make, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the script with a worker of the test's own, where Slurm's commands only say that they were called."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for name, text in {
        "squeue": "date --date=+1hour +%Y-%m-%dT%H:%M:%S",
        "scontrol": 'echo "asked: $0 $*"',
        "sleep": "exec /bin/sleep 0.01",
    }.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)

    def script(worker: str, **options: Any) -> subprocess.Popen[str]:
        (folder / "worker").write_text(f"#!/bin/bash\n{worker}\n")
        (folder / "worker").chmod(0o755)
        launched = make(command=str(folder / "worker"), **options)
        launched._launch.keep_secrets()
        return subprocess.Popen(
            ["bash", "-c", launched.plan(1)],
            env={"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return script


Script = Callable[..., "subprocess.Popen[str]"]
STAYS = 'trap "echo asked to leave; exit 0" USR1; echo ready; while :; do /bin/sleep 0.05; done'


def ended(process: subprocess.Popen[str], number: signal.Signals | None = None) -> tuple[int, str]:
    """Wait for the script, after a signal to it once its worker is ready."""
    said = ""
    if number is not None:
        assert process.stdout is not None
        while "ready" not in said:
            said += process.stdout.readline()
        process.send_signal(number)
    more, _ = process.communicate(timeout=30)
    return process.returncode, said + more


@pytest.mark.parametrize("status", [0, 2, 7, 9])
def test_a_worker_that_left_on_purpose_ends_the_task_with_its_status(script: Script, status: int) -> None:
    assert ended(script(f"echo ran; exit {status}")) == (status, "ran\n")


def test_the_worker_knows_its_launch_its_database_and_when_to_leave(script: Script) -> None:
    _, said = ended(script('echo "$HPO_SERVICE_LAUNCH|$HPO_SERVICE_STORAGE|$((HPO_SERVICE_STOP_AT - $(date +%s)))|$*"'))
    launch, storage, left, arguments = said.strip().split("|")
    assert (launch, storage) == ("3f2a91c0", SECRET)
    assert 3600 - 130 < int(left) <= 3600 - 119
    assert arguments == "worker --study mine --until-finished --drain-seconds 90"


def test_a_worker_that_dies_is_started_again_but_not_for_ever(script: Script) -> None:
    status, said = ended(script("kill -9 $$"))
    assert status == 137
    assert said.count("the worker ended with status 137: it is started again in") == slurm.RESTARTS
    assert "requeue" not in said


def test_when_its_time_is_up_and_the_study_goes_on_the_task_is_queued_again(script: Script) -> None:
    status, said = ended(script("exit 11"))
    assert status == 11
    assert "scontrol requeue 17" in said


def test_slurms_signal_is_passed_on_and_the_task_queued_again(script: Script) -> None:
    status, said = ended(script(STAYS), signal.SIGUSR1)
    assert status == 0
    assert "asked to leave" in said
    assert "scontrol requeue 17" in said


def test_a_task_that_is_not_to_be_queued_again_is_not(script: Script) -> None:
    _, said = ended(script(STAYS, requeue=False), signal.SIGUSR1)
    assert "asked to leave" in said
    assert "requeue 17" not in said
    assert ended(script("exit 11", requeue=False)) == (11, "")


def test_a_cancelled_task_has_its_worker_leave_and_stays_away(script: Script) -> None:
    status, said = ended(script(STAYS), signal.SIGTERM)
    assert status == 0
    assert "asked to leave" in said
    assert "requeue" not in said


def test_a_task_that_is_cancelled_near_its_time_limit_stays_away(script: Script) -> None:
    waits = 'trap "echo told" USR1; echo ready; for i in 1 2 3 4 5 6 7 8; do /bin/sleep 0.2; done; exit 0'
    process = script(waits)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "told\n"
    process.send_signal(signal.SIGTERM)
    _, said = ended(process)
    assert "requeue" not in said


def test_a_worker_is_given_the_time_to_leave_and_is_not_started_again(script: Script) -> None:
    until_told = 'trap "left=1" USR1; echo ready; until [ "$left" ]; do /bin/sleep 0.05; done'
    slow = f"{until_told}; /bin/sleep 0.5; echo saved; kill -9 $$"
    began = time.monotonic()
    status, said = ended(script(slow), signal.SIGTERM)
    assert time.monotonic() - began > 0.5
    assert (status, said.count("saved"), said.count("ready")) == (137, 1, 1)


@pytest.mark.parametrize("visible, mine", [("0,1,2,3", ["0,1", "2,3"]), ("0,1", ["0,1", "0,1"]), ("", ["", ""])])
def test_processes_that_see_all_gpus_of_their_task_share_them(visible: str, mine: list[str]) -> None:
    pin = slurm._PIN.format(gpus=2)
    said = [
        subprocess.run(
            ["bash", "-c", f'{pin} echo "$CUDA_VISIBLE_DEVICES"'],
            env={"CUDA_VISIBLE_DEVICES": visible, "SLURM_NTASKS": "2", "SLURM_LOCALID": str(number)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for number in range(2)
    ]
    assert said == mine
