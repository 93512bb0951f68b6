"""`hpo-service webhook`: the secret is printed once and listed never."""

from __future__ import annotations

import json

import pytest

from hpo_service.cli import main


def run(*arguments: str) -> int:
    try:
        main(["webhook", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(autouse=True)
def storage(migrated_sqlite, monkeypatch):
    monkeypatch.setenv("HPO_SERVICE_STORAGE", migrated_sqlite)


def test_a_webhook_is_added_listed_and_removed(capsys):
    assert run("add", "https://hooks.example/p4th", "--json") == 0
    added = json.loads(capsys.readouterr().out)
    assert len(added["secret"]) == 48
    for form in ((), ("--json",)):
        assert run("list", *form) == 0
        shown = capsys.readouterr().out
        assert added["id"] in shown
        assert "https://hooks.example/..." in shown
        assert "p4th" not in shown
        assert added["secret"] not in shown
    assert run("remove", added["id"]) == 0
    assert run("remove", added["id"]) == 3


def test_a_test_that_was_not_taken_is_an_error_without_the_secret(capsys):
    assert run("add", "http://127.0.0.1:9/p4th", "--json") == 0
    added = json.loads(capsys.readouterr().out)
    assert run("test", added["id"]) == 1
    said = capsys.readouterr().err
    assert "did not take the message" in said
    assert "p4th" not in said
    assert added["secret"] not in said


def test_an_address_that_is_none_and_a_study_that_is_not_there_are_refused(capsys):
    assert run("add", "slack") == 2
    assert run("add", "https://a/", "--study", "none") == 3
