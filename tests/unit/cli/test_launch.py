"""`hpo-service launch`: commands made of launchers' options, refusals in one line, caps that are said in advance."""

from __future__ import annotations

import json

import pytest

from hpo_service import cli
from hpo_service.bootstrap import Service
from hpo_service.cli.launch.start import cap_text
from hpo_service.domain.decide.placement import Resources
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState
from hpo_service.launch.launcher import LAUNCHERS
from hpo_service.launch.options import LaunchOptions
from hpo_service.service.trials.budget import DeviceHours
from hpo_service.service.trials.demand import Demand
from hpo_service.settings import Settings


@pytest.fixture
def service(migrated_sqlite, tmp_path, monkeypatch):
    monkeypatch.setenv("HPO_SERVICE_STORAGE", migrated_sqlite)
    service = Service(Settings(migrated_sqlite, tmp_path / "out", tmp_path / "cache"))
    study = {"name": "mine", "objective": {"python": "a:b"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}
    service.studies.create(StudySpec.model_validate(study))
    yield service
    service.db.dispose()


@pytest.fixture
def said(capsys):
    """Runs a command in this process; returns exit status, standard output and standard error."""

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(["launch", *arguments])
        return (ended.value.code, *capsys.readouterr())

    return command


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_option_of_a_launcher_is_in_its_help_with_examples(said, name):
    status, out, _ = said(name, "--help")
    assert status == 0
    assert all(f"--{field.replace('_', '-')}" in out for field in LAUNCHERS[name].options.model_fields)
    assert "--max" in out
    assert f"hpo-service launch {name} mine" in out


def test_the_help_lists_launchers_and_what_steers_launches(said):
    _, out, _ = said("--help")
    assert all(f"  {name} " in out for name in (*LAUNCHERS, "status", "logs", "scale", "cancel", "keep"))


def test_a_dry_run_prints_what_would_be_submitted_and_writes_nothing_down(said, service):
    status, out, _ = said("slurm", "mine", "--workers", "3", "--dry-run", "--sbatch=--exclude=n7", "--no-requeue")
    assert status == 0
    assert out.startswith("#!/bin/bash\n#SBATCH --job-name=hpo-")
    assert "#SBATCH --exclude=n7\n" in out
    assert "#SBATCH --no-requeue\n" in out
    assert service.launches.list_all() == []
    _, out, _ = said("local", "mine", "--workers", "2", "--dry-run")
    assert out.count("worker --study mine --until-finished") == 2


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["slurm", "mine"], 2, "say how many workers Slurm is to start: --workers N"),
        (["slurm", "mine", "--workers", "0"], 2, "--workers: "),
        (["slurm", "mine", "--workers", "1", "--max-cost", "3"], 2, "--max-cost needs --price-per-hour"),
        (["slurm", "yours", "--workers", "1"], 3, "there is no study 'yours'"),
        (["logs", "3f2a91c0"], 3, "there is no launch '3f2a91c0'"),
        (["keep", "3f2a91c0"], 3, "there is no launch '3f2a91c0'"),
        (["status", "yours"], 3, "there is no study 'yours'"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_a_status(said, service, arguments, status, message):
    code, _, error = said(*arguments)
    assert code == status
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_launch_is_listed_with_what_its_scheduler_cannot_say(said, service, monkeypatch):
    monkeypatch.setenv("PATH", "")
    service.launches.add("3f2a91c0", "mine", "slurm", 3, {"partition": "gpu"}, output="/out", by="ann@desk")
    status, out, error = said("status")
    assert status == 0
    assert "3f2a91c0" in out
    assert "launch 3f2a91c0: Slurm's `squeue` is not installed here" in error
    (document,) = json.loads(said("status", "mine", "--json")[1])
    assert (document["launcher"], document["state"], document["workers"]) == ("slurm", "active", 3)
    assert document["options"] == {"partition": "gpu"}


def test_a_launch_is_cancelled_for_its_workers_where_its_scheduler_cannot_be_asked(said, service, monkeypatch):
    monkeypatch.setenv("PATH", "")
    service.launches.add("3f2a91c0", "mine", "slurm", 3, {}, output="/out", by="")
    service.workers.register("w1", Resources(), "slurm 17_0", "3f2a91c0")
    code, _, error = said("cancel", "3f2a91c0", "--reason", "enough")
    assert code == 1
    assert "`scancel` is not installed here" in error
    assert "its workers save and leave" in error
    (found,) = service.launches.list_all()
    assert (found.launch.state, [worker.state for worker in found.workers]) == ("cancelled", ["draining"])


def test_a_launch_that_its_scheduler_refuses_has_ended(said, service, monkeypatch):
    monkeypatch.setenv("PATH", "")
    code, _, error = said("slurm", "mine", "--workers", "2")
    assert (code, "`sbatch` is not installed here" in error) == (1, True)
    (found,) = service.launches.list_all()
    assert found.launch.state == "ended"
    assert "`sbatch` is not installed here" in found.launch.reason


def test_a_worker_of_a_launch_that_wants_none_any_more_leaves_at_once(service, monkeypatch):
    service.launches.add("3f2a91c0", "mine", "slurm", 3, {}, output="/out", by="")
    service.launches.cancel("3f2a91c0", "enough", "")
    monkeypatch.setenv("HPO_SERVICE_LAUNCH", "3f2a91c0")
    with pytest.raises(SystemExit) as ended:
        cli.main(["worker", "--study", "mine", "--until-finished"])
    assert ended.value.code == 0
    assert service.workers.list_all().workers == []


def test_a_launch_by_a_launcher_of_another_version_is_named(said, service):
    service.launches.add("3f2a91c0", "mine", "moonbase", 3, {}, output="/out", by="")
    code, _, error = said("logs", "3f2a91c0")
    assert code == 4
    assert "made by the launcher 'moonbase', which this version does not have" in error


def demand(used=0.0, typical=0.0, forbidden=""):
    return Demand(StudyState.ACTIVE, "search", 9, 1, DeviceHours(used, typical, 0.0), forbidden)


@pytest.mark.parametrize(
    "options, left, text",
    [
        ({}, demand(), ""),
        (
            {"max_device_hours": 10.0},
            demand(used=4.0, typical=1.5),
            "the cap of 10 device hours leaves 6.000, about 4 trials like those of search: then no trial is started "
            "any more, and the study waits. It has used 4.000",
        ),
        (
            {"max_cost": 100.0, "price_per_hour": 2.5},
            demand(),
            "the cap of 40 device hours (100.00 at 2.5 an hour) leaves 40.000: then no trial is started any more, and "
            "the study waits. It has used 0.000",
        ),
        (
            {"max_device_hours": 3.0},
            demand(forbidden="2.9 of at most 3 are used"),
            "the cap of 3 device hours leaves no trial: 2.9 of at most 3 are used",
        ),
    ],
)
def test_what_a_cap_leaves_is_said_in_advance(options, left, text):
    assert cap_text(LaunchOptions.read(options), left) == text


def test_the_smaller_of_two_caps_counts_and_reaches_the_workers():
    options = LaunchOptions.read(
        {"max_device_hours": 30.0, "max_cost": 100.0, "price_per_hour": 5.0, "until_done": True}
    )
    assert options.hours == 20.0
    expected = ["--drain-seconds", "90", "--idle-seconds", "60", "--max-device-hours", "20"]
    assert options.worker_arguments == expected
