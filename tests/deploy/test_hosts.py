"""What starts workers on machines without containers: systemd, a Slurm array, SkyPilot; and PgBouncer between."""

from __future__ import annotations

import configparser
import re
import subprocess

from ruamel.yaml import YAML

from hpo_service.storage.database import SERVER_SETTINGS


def seconds(pattern, text):
    return float(re.search(pattern, text)[1])


def test_systemd_gives_a_worker_longer_to_save_than_it_takes_and_keeps_its_secrets_elsewhere(deploy):
    worker = (deploy / "systemd/hpo-worker@.service").read_text()
    assert seconds(r"TimeoutStopSec=(\d+)", worker) >= seconds(r"--drain-seconds (\d+)", worker) + 30
    assert "KillMode=mixed" in worker
    assert "CUDA_VISIBLE_DEVICES=%i" in worker
    for unit in (worker, (deploy / "systemd/hpo-server.service").read_text()):
        assert "User=hpo\n" in unit
        assert "EnvironmentFile=/etc/hpo-service/environment" in unit
        assert not re.search(r"^Environment=.*(STORAGE|PASSWORD|TOKEN)", unit, re.MULTILINE)


def test_the_slurm_array_is_told_early_enough_and_its_script_is_one(deploy):
    script = deploy / "slurm/workers.sh"
    text = script.read_text()
    assert seconds(r"--signal=B:USR1@(\d+)", text) >= seconds(r"--drain-seconds (\d+)", text) + 30
    assert "#SBATCH --requeue" in text
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_spot_workers_save_within_a_short_notice_and_their_secrets_are_given_when_they_are_launched(deploy):
    task = YAML(typ="safe").load((deploy / "skypilot/workers.yaml").read_text())
    assert task["resources"]["use_spot"] is True
    assert seconds(r"--drain-seconds (\d+)", task["run"]) < 30
    assert not any(task["secrets"].values())
    assert task["envs"]["HPO_SERVICE_STORE"].startswith("s3://")
    assert "s3" in task["setup"]


def test_pgbouncer_speaks_tls_both_ways_and_follows_prepared_statements(deploy):
    settings = configparser.ConfigParser(comment_prefixes=(";",))
    settings.read(deploy / "pgbouncer/pgbouncer.ini")
    ours = settings["pgbouncer"]
    assert int(ours["max_prepared_statements"]) > 0
    assert ours["ignore_startup_parameters"] == "options"
    roles = (deploy / "pgbouncer/pgbouncer.ini").read_text()
    for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
        assert f"ALTER ROLE hpo SET {name} = '{SERVER_SETTINGS[name]}'" in roles
    assert (ours["server_tls_sslmode"], ours["client_tls_sslmode"]) == ("verify-full", "require")
    assert "password" not in settings["databases"]["hpo"]
