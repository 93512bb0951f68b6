"""Images and what starts them on one machine: compose.yaml and the Dockerfiles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.deploy.conftest import ROOT
from tests.deploy.pods import SECRETS

DOCKERFILES = sorted((ROOT / "deploy/docker").glob("*.Dockerfile"))
BIN = Path(sys.executable).parent
DRAIN_SECONDS = 90


@pytest.fixture(scope="module")
def services(request):
    return YAML(typ="safe").load((ROOT / "deploy/compose.yaml").read_text())["services"]


def instructions(file: Path) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments, lines that go on joined."""
    joined = re.sub(r"\\\n\s*", "", file.read_text())
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def commands(file: Path, root: Path) -> list[str]:
    """What its RUN lines execute, with the image's folders under another root."""
    runs = [what for kind, what in instructions(file) if kind == "RUN"]
    return [re.sub(r"(?<![\w./])/(opt/hpo|hpo)\b", rf"{root}/\1", what) for what in runs]


def test_compose_follows_the_schema_of_compose_files():
    check = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "deploy/compose.yaml"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_worker_s_container_may_save_before_it_is_killed(services):
    for name in ("worker", "gpu-worker"):
        worker = services[name]
        assert worker["command"] == ["worker", "--drain-seconds", str(DRAIN_SECONDS)], name
        assert int(worker["stop_grace_period"].removesuffix("s")) >= DRAIN_SECONDS + 30, name


def test_services_wait_for_what_they_need_and_gpus_are_a_profile(services):
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("server", "worker", "gpu-worker"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}, name
    assert [name for name, each in services.items() if "profiles" in each] == ["gpu-worker"]
    assert services["server"]["ports"] == ["127.0.0.1:8080:8080"]


def test_no_service_has_a_secret_in_plain_text_or_more_rights_than_it_needs(services):
    for name, service in services.items():
        assert not [key for key in service["environment"] if any(part in key for part in ("PASSWORD", "TOKEN"))], name
        assert ":" not in service["environment"].get("HPO_SERVICE_STORAGE", "//").split("//")[1].split("@")[0], name
        assert "database.env" in service["env_file"], name
        if name != "postgres":
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(file):
    done = subprocess.run([BIN / "hadolint", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_by_digest_has_no_root_and_no_secret_and_says_how_it_is(file):
    found = instructions(file)
    bases = [what.split()[0] for kind, what in found if kind == "FROM"]
    assert all(base.endswith("@${PYTHON_DIGEST}") for base in bases)
    assert ("ARG", "PYTHON_DIGEST") in found  # without a default: nothing is built on what is not pinned
    assert [what for kind, what in found if kind == "USER"] == ["1000:1000"]
    assert [kind for kind, _ in found].count("HEALTHCHECK") == 1
    assert not [what for kind, what in found if kind in ("ENV", "ARG") and any(part in what for part in SECRETS)]
    copied = [what.split()[:-1] for kind, what in found if kind == "COPY" and not what.startswith("--from")]
    for source in (name for names in copied for name in names):
        assert (ROOT / source).exists(), source
        assert f"!{source.removeprefix('./')}" in (ROOT / ".dockerignore").read_text().splitlines(), source


@pytest.fixture
def source(tmp_path) -> Path:
    """What a build sees of the tree."""
    folder = tmp_path / "src"
    for name in ("hpo_service", "alembic", "studies"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def execute(command: str, folder: Path, **environment: str) -> str:
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = f"{Path(sys.base_prefix) / 'bin'}:{own['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=folder,
        env=own | {"PATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_server_s_image_has_no_torch_and_its_commands_work(source, tmp_path):
    """Every RUN of the image, executed: what it installs is all that the server has."""
    for command in commands(ROOT / "deploy/docker/server.Dockerfile", tmp_path):
        execute(command.replace("--no-cache-dir ", ""), source)
    python = tmp_path / "opt/hpo/bin/python"
    installed = execute(f"{python} -m pip list --format freeze", tmp_path).lower()
    assert "fastapi==" in installed
    assert not re.findall(r"^(torch|transformers|peft|nvidia-c\S*|triton|bitsandbytes)==", installed, re.MULTILINE)
    there = f"{tmp_path}/opt/hpo/bin/hpo-service"
    place = {"HPO_SERVICE_OUTPUT": str(tmp_path / "hpo"), "HPO_SERVICE_CACHE": str(tmp_path / "cache")}
    execute(f"{there} db upgrade && {there} token create me --role admin && {there} serve --help", tmp_path, **place)
    loaded = "import sys, hpo_service.web.server, hpo_service.bootstrap; print('torch' in sys.modules)"
    assert execute(f'{python} -c "{loaded}"', tmp_path) == "False\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_worker_s_image_can_be_installed(source, tmp_path):
    """Its RUN lines, with pip asked only what it would install: the tests themselves run on those very versions."""
    for command in commands(ROOT / "deploy/docker/worker.Dockerfile", tmp_path):
        said = execute(command.replace("--no-cache-dir", "--dry-run"), source)
        if "pip install" in command:
            assert re.search(r"Would install .*\btorch-2\.13\.0", said)
