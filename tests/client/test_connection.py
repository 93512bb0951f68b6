"""Whom a client asks, and what it does while nobody answers."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

import hpo_service
from hpo_service import errors
from hpo_service.client import Client, connect
from hpo_service.client.http import HttpTransport
from hpo_service.client.problems import error_of
from hpo_service.domain.access import Role
from tests.web.conftest import study_file


def answering(*answers: httpx.Response | Exception) -> tuple[Client, list[httpx.Request]]:
    """A client of a server that answers so, one after the other."""
    asked: list[httpx.Request] = []
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    transport = HttpTransport("http://server/hpo", "s3cret", client=httpx.Client(transport=httpx.MockTransport(answer)))
    return Client(transport, patience=30.0), asked


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)


AWAY = httpx.ConnectError("refused")


def test_what_may_be_asked_twice_is_asked_again():
    client, asked = answering(AWAY, httpx.Response(503), httpx.Response(200, json=[]))
    assert client.studies() == []
    assert [str(request.url) for request in asked] == ["http://server/hpo/v1/studies"] * 3


def test_a_study_that_is_created_again_is_created_under_the_same_key():
    client, asked = answering(AWAY, httpx.Response(201, json={"name": "a"}))
    client.create(study_file())
    first, second = (request.headers["Idempotency-Key"] for request in asked)
    assert first == second


def test_stopping_a_trial_is_not_asked_twice():
    client, asked = answering(AWAY)
    with pytest.raises(errors.ServerUnavailableError, match="http://server/hpo is not available"):
        client.stop("mine", "search", 0)
    assert len(asked) == 1


def test_a_study_whose_deletion_was_heard_but_not_answered_is_deleted():
    gone = httpx.Response(404, json={"type": "urn:hpo-service:problem:not-found", "detail": "no"})
    client, asked = answering(httpx.ReadError("cut"), gone)
    client.delete("mine")
    assert len(asked) == 2, "asked again, and told that it is gone"


def test_a_token_is_in_no_text_and_goes_to_no_other_host():
    client, asked = answering(httpx.Response(307, headers={"Location": "http://elsewhere/"}))
    with pytest.raises(errors.HpoServiceError):
        client.studies()
    assert len(asked) == 1
    assert "s3cret" not in repr(client)


@pytest.mark.parametrize(
    "status, body, kind",
    [
        (401, b"{}", errors.AccessError),
        (403, b'{"type": "urn:hpo-service:problem:forbidden", "detail": "no"}', errors.AccessError),
        (502, b"<html>bad gateway</html>", errors.ServerUnavailableError),
        (503, b'{"type": "urn:hpo-service:problem:schema", "detail": "old"}', errors.SchemaError),
        (409, b'{"type": "urn:hpo-service:problem:conflict", "detail": "no"}', errors.ConflictError),
        (500, b"[]", errors.HpoServiceError),
    ],
)
def test_problems_become_typed_errors(status, body, kind):
    assert type(error_of(status, body)) is kind


def test_a_role_that_may_not_is_an_error_of_access(listening, site):
    with connect(listening.url, site.secrets[Role.VIEWER]) as client, pytest.raises(errors.AccessError, match="role"):
        client.create(study_file())
    with connect(listening.url, "wrong") as client, pytest.raises(errors.AccessError, match="unknown"):
        client.studies()


def test_names_that_are_paths_are_names(listening, site):
    with connect(listening.url, site.secrets[Role.ADMIN]) as client, pytest.raises(errors.HpoServiceError):
        client.study("../tokens")


def test_neither_a_file_that_is_not_there_nor_a_token_for_a_database_is_taken(tmp_path, migrated_sqlite):
    with pytest.raises(errors.UsageError, match="no database"):
        connect(tmp_path / "none.db")
    with pytest.raises(errors.UsageError, match="for a server"):
        connect(migrated_sqlite, token="hpo_x")
    with connect(migrated_sqlite.removeprefix("sqlite:///")) as client:
        assert client.studies() == []
    with pytest.raises(AttributeError):
        hpo_service.nothing  # noqa: B018


def test_importing_the_package_is_light_and_a_client_over_http_loads_no_server():
    code = (
        "import sys, hpo_service; assert not {'sqlalchemy', 'httpx', 'optuna'} & {*sys.modules}\n"
        "hpo_service.connect('http://127.0.0.1:9')\n"
        "found = {'fastapi', 'uvicorn', 'sqlalchemy', 'optuna', 'torch', 'pandas'} & {*sys.modules}\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
