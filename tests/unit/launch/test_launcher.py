"""The table of launchers: every row can be planned, submitted to, asked, scaled and cancelled."""

from __future__ import annotations

import pytest

from hpo_service.launch.launcher import LAUNCHERS, Launcher, job_here
from hpo_service.launch.options import LaunchOptions

STEPS = {name for name in {*vars(Launcher), *Launcher.__annotations__} if not name.startswith("_")}


def test_a_launcher_is_a_handful_of_steps() -> None:
    assert {
        *("options", "title", "examples", "keeps"),
        *("workers", "plan", "submit", "jobs", "tick", "withdraw", "logs", "cancel", "settle", "here"),
    } == STEPS


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_has_all_of_them_and_takes_what_every_launch_takes(name: str) -> None:
    kind = LAUNCHERS[name]
    assert {step for step in STEPS if hasattr(kind, step)} == STEPS
    assert set(LaunchOptions.model_fields) <= set(kind.options.model_fields)
    assert all(field.description for field in kind.options.model_fields.values())
    assert all(line.startswith(f"hpo-service launch {name} ") for line in kind.examples)


@pytest.mark.parametrize(
    "environment, job",
    [
        ({}, None),
        ({"HPO_SERVICE_PLACE": "gpu3"}, "local gpu3"),
        ({"HPO_SERVICE_RAY_ACTOR": "hpo-3f2a91c0-3", "SLURM_JOB_ID": "7"}, "ray hpo-3f2a91c0-3"),
        ({"SLURM_JOB_ID": "7"}, "slurm 7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "slurm 7_2"),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, "slurm 7.3"),
    ],
)
def test_a_worker_knows_its_job_by_the_variables_of_its_scheduler(environment: dict[str, str], job: str | None) -> None:
    assert job_here(environment) == job
