"""What a worker still has to tell the database: in order, once, with pauses while it is away."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hpo_service.errors import (
    DatabaseFaultError,
    DatabaseUnavailableError,
    NotFoundError,
    SchemaError,
    StaleLeaseError,
)
from hpo_service.worker.outbox import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, Delivery, Outbox


class Database:
    def __init__(self) -> None:
        self.away = False
        self.taken: list[str] = []
        self.answers: list[str] = []
        self.refusals: list[str] = []
        self.calls = 0

    def delivery(self, trial: str, text: str, error: Exception | None = None) -> Delivery:
        def call() -> str:
            self.calls += 1
            if self.away:
                raise DatabaseUnavailableError("away")
            if error is not None:
                raise error
            self.taken.append(text)
            return text.upper()

        return Delivery(trial, call, self.answers.append, lambda problem: self.refusals.append(str(problem)))


class Now:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def outbox(now: Now) -> Outbox:
    return Outbox(now, random.Random(1))


def test_deliveries_arrive_in_order_and_their_answers_come_back(outbox: Outbox, database: Database) -> None:
    for text in ("one", "two", "three"):
        outbox.put(database.delivery("a", text))
    assert outbox.flush()
    assert (database.taken, database.answers) == (["one", "two", "three"], ["ONE", "TWO", "THREE"])
    assert len(outbox) == 0


def test_an_outage_keeps_everything_and_nothing_is_delivered_twice(
    outbox: Outbox, database: Database, now: Now
) -> None:
    outbox.put(database.delivery("a", "one"))
    outbox.flush()
    database.away = True
    outbox.put(database.delivery("a", "two"))
    outbox.put(database.delivery("b", "three"))
    assert not outbox.flush()
    assert outbox.database_away
    assert len(outbox) == 2
    database.away = False
    now.seconds += LAST_RETRY_SECONDS
    assert outbox.flush()
    assert database.taken == ["one", "two", "three"]
    assert not outbox.database_away


def test_during_the_pause_after_an_outage_the_database_is_left_alone(
    outbox: Outbox, database: Database, now: Now
) -> None:
    database.away = True
    outbox.put(database.delivery("a", "one"))
    outbox.flush()
    assert not outbox.may_try
    outbox.flush()
    assert database.calls == 1
    now.seconds += FIRST_RETRY_SECONDS
    assert outbox.may_try
    outbox.flush()
    assert database.calls == 2


def test_pauses_grow_up_to_a_bound_and_are_jittered(outbox: Outbox, database: Database, now: Now) -> None:
    database.away = True
    outbox.put(database.delivery("a", "one"))
    pauses = []
    for _ in range(10):
        began = now.seconds
        outbox.flush()
        while not outbox.may_try:
            now.seconds += 0.01
        pauses.append(now.seconds - began)
    assert pauses[0] <= FIRST_RETRY_SECONDS + 0.01
    assert all(LAST_RETRY_SECONDS / 2 <= pause <= LAST_RETRY_SECONDS + 0.02 for pause in pauses[-4:])
    assert len({round(pause, 2) for pause in pauses[-4:]}) > 1


def test_an_answer_from_elsewhere_ends_the_outage(outbox: Outbox, now: Now) -> None:
    outbox.outage()
    outbox.outage()
    outbox.reached()
    assert not outbox.database_away
    outbox.outage()
    now.seconds += FIRST_RETRY_SECONDS
    assert outbox.may_try


def test_a_worker_in_a_hurry_does_not_wait_for_the_pause(outbox: Outbox, database: Database) -> None:
    outbox.outage()
    outbox.put(database.delivery("a", "one"))
    assert not outbox.flush()
    outbox.hurry()
    assert outbox.flush()
    assert database.taken == ["one"]


@pytest.mark.parametrize("error", [StaleLeaseError("not yours"), NotFoundError("deleted")])
def test_a_refused_trial_is_forgotten_and_the_others_are_not(
    outbox: Outbox, database: Database, error: Exception
) -> None:
    outbox.put(database.delivery("a", "first", error))
    outbox.put(database.delivery("b", "second"))
    outbox.put(database.delivery("a", "third"))
    assert outbox.flush()
    assert database.taken == ["second"]
    assert database.refusals == [str(error)]
    assert len(outbox) == 0


def test_a_refusal_is_an_answer_and_ends_the_outage(outbox: Outbox, database: Database, now: Now) -> None:
    outbox.outage()
    outbox.put(database.delivery("a", "first", StaleLeaseError("not yours")))
    now.seconds += LAST_RETRY_SECONDS
    outbox.flush()
    assert not outbox.database_away


def test_forgetting_a_trial_leaves_the_order_of_the_rest(outbox: Outbox, database: Database) -> None:
    for trial, text in (("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")):
        outbox.put(database.delivery(trial, text))
    outbox.forget("a")
    outbox.flush()
    assert database.taken == ["2", "4"]


def test_what_nobody_expects_is_not_swallowed(outbox: Outbox, database: Database) -> None:
    outbox.put(database.delivery("a", "first", ZeroDivisionError()))
    flush: Callable[[], Any] = outbox.flush
    with pytest.raises(ZeroDivisionError):
        flush()


@pytest.mark.parametrize("error", [DatabaseFaultError("damaged"), SchemaError("no such table")])
def test_a_database_that_cannot_work_ends_the_worker_and_costs_no_trial(
    outbox: Outbox, database: Database, error: Exception
) -> None:
    broken: list[Exception] = []
    outbox.put(replace(database.delivery("a", "one", error), broken=broken.append))
    with pytest.raises(type(error)):
        outbox.flush()
    with pytest.raises(type(error)):
        outbox.ask(database.delivery("a", "one", error).call, default=None)
    assert not broken
    assert not database.refusals
