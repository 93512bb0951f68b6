"""Access tokens on the command line: shown once, listed without their secrets, revoked at once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hpo_service import cli
from hpo_service.bootstrap import Service
from hpo_service.domain.access import Role
from hpo_service.service.access import AccessKind
from hpo_service.settings import Settings


@pytest.fixture
def command(capsys, migrated_sqlite):
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "--storage", migrated_sqlite])
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def access(migrated_sqlite):
    service = Service(Settings.read(storage=migrated_sqlite))
    yield service.access
    service.db.dispose()


def test_the_secret_alone_is_printed_to_be_kept_by_a_script(command, access):
    status, out, err = command("token", "create", "anna", "--role", "operator", "--days", "1")
    assert status == 0
    row = access.recognise(out.strip(), AccessKind.TOKEN)
    assert (row.name, row.role) == ("anna", Role.OPERATOR)
    assert row.expires_at - row.created_at == pytest.approx(86_400.0)
    assert row.id in err
    assert out.strip() not in err


def test_tokens_are_listed_without_secrets_and_revoked(command, access):
    issued = access.issue("anna", Role.VIEWER)
    status, out, _ = command("token", "list", "--json")
    (listed,) = json.loads(out)
    assert (status, listed["id"], listed["role"]) == (0, issued.row.id, "viewer")
    assert "secret" not in out
    assert "valid" in command("token", "list")[1]
    assert command("token", "revoke", issued.row.id)[0] == 0
    assert "revoked" in command("token", "list")[1]
    assert access.recognise(issued.secret, AccessKind.TOKEN) is None


def test_an_unknown_token_cannot_be_revoked(command):
    status, _, err = command("token", "revoke", "nobody")
    assert status == 3
    assert "hpo-service token list" in err


def test_without_the_extra_serve_says_what_to_install(migrated_sqlite):
    script = "import sys; sys.modules['fastapi'] = None; from hpo_service.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", script, "serve", "--storage", migrated_sqlite]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'hpo-service[web]'" in done.stderr


def test_the_command_line_starts_without_the_servers_libraries():
    listed = "import sys, hpo_service.cli; print({'fastapi', 'sqlalchemy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
