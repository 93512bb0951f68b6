"""The server's own rounds go on whatever happens in one."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from hpo_service.errors import DatabaseUnavailableError
from hpo_service.web.background import Background


@pytest.fixture
def calls() -> list[str]:
    return []


def service(calls: list[str], reap=lambda: None):
    def noted(name):
        return lambda: calls.append(name)

    return SimpleNamespace(
        reaper=SimpleNamespace(reap=reap),
        stages=SimpleNamespace(advance_all=noted("advance")),
        access=SimpleNamespace(tidy=noted("access")),
        idempotency=SimpleNamespace(tidy=noted("idempotency")),
        webhooks=SimpleNamespace(deliver=lambda _: calls.append("webhooks")),
    )


def test_a_round_moves_studies_on_and_forgets_what_is_over(calls):
    Background(service(calls)).round()
    assert calls == ["advance", "access", "idempotency", "webhooks"]


def test_an_outage_is_said_once(calls, caplog):
    def away():
        raise DatabaseUnavailableError("the database is not available")

    rounds = Background(service(calls, away))
    for _ in range(3):
        rounds.round()
    assert [record.message for record in caplog.records] == [
        "the database is not available; the server goes on when it is back"
    ]


def test_a_mistake_in_one_round_does_not_end_the_next(calls):
    twice = threading.Event()

    def broken():
        calls.append("reap")
        if calls.count("reap") > 1:
            twice.set()
        raise ValueError("a mistake")

    rounds = Background(service(calls, broken), period=0.001)
    rounds.start()
    assert twice.wait(30)
    rounds.stop()
