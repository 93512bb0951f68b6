"""Webhooks are told once of what ended or went wrong, in order, and again later where they did not listen."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import HpoServiceError, NotFoundError, UsageError
from hpo_service.presentation.documents.events import message_of
from hpo_service.service.posting import NotTaken
from hpo_service.service.webhooks import MOST_ATTEMPTS, Webhooks, pause_after
from hpo_service.settings import Settings


def study(name: str) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": name,
            "objective": {"python": "nobody:calls_it"},
            "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
            "confirm": {"enabled": False},
        }
    )


class Listener:
    """Whoever is posted to."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any], str]] = []
        self.deaf = False

    def __call__(self, url: str, secret: str, message: dict[str, Any], *, about: str, allow_link_local: bool) -> None:
        if self.deaf:
            raise NotTaken("it answered 500")
        self.heard.append((url, message, about))

    @property
    def kinds(self) -> list[str]:
        return [message["event"]["kind"] for _, message, _ in self.heard]


@pytest.fixture
def service(migrated_url, tmp_path):
    made = Service(Settings(storage=migrated_url, output=tmp_path, cache=tmp_path))
    made.studies.create(study("mine"))
    made.studies.create(study("other"))
    yield made
    made.db.dispose()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def webhooks(service, listener) -> Webhooks:
    return replace(service.webhooks, post=listener)


def fail(service: Service, name: str) -> None:
    with service.db.transaction():
        service.study_rows.set_state(service.study_rows.get(name).id, StudyState.FAILED, f"{name} cannot work")


def pass_time(service: Service) -> None:
    with service.db.transaction():
        service.db.connection.execute(text("UPDATE hpo_webhook_message SET due_at = 0"))


def test_trouble_is_told_once_and_what_people_did_is_not(service, webhooks, listener):
    webhooks.add("https://ours/hook")
    service.studies.steer("mine", StudyState.PAUSED, "night", by="ann")
    fail(service, "other")
    assert webhooks.deliver(message_of) == 1
    assert webhooks.deliver(message_of) == 0
    ((url, message, about),) = listener.heard
    assert url == "https://ours/hook"
    assert "other cannot work" in message["text"]
    assert (message["event"]["study"], about) == ("other", str(message["event"]["id"]))


def test_the_end_of_a_stage_and_a_worker_that_is_unfit_are_told_and_one_that_left_is_not(service, webhooks, listener):
    webhooks.add("https://ours/hook")
    with service.db.transaction():
        stage = service.study_rows.stages(service.study_rows.get("mine").id)[0]
        service.study_rows.close_stage(stage.id, "all trials have ended")
        for name in ("w1", "w2"):
            service.worker_rows.register(name, "host", 1, "0", "cpu")
    service.workers.retire("w1")
    service.workers.retire("w2", "the GPU fell off the bus")
    webhooks.deliver(message_of)
    assert listener.kinds == ["stage_closed", "worker_left"]
    assert "fell off the bus" in listener.heard[1][1]["text"]


def test_a_webhook_of_one_study_hears_of_that_one_alone_and_goes_with_it(service, webhooks, listener):
    webhooks.add("https://ours/hook", "mine")
    fail(service, "other")
    fail(service, "mine")
    webhooks.deliver(message_of)
    assert [message["event"]["study"] for _, message, _ in listener.heard] == ["mine"]
    service.studies.delete("mine")
    assert webhooks.list_all() == []


def test_what_was_rolled_back_is_not_told(service, webhooks, listener):
    webhooks.add("https://ours/hook")
    with contextlib.suppress(RuntimeError), service.db.transaction():
        service.study_rows.set_state(service.study_rows.get("mine").id, StudyState.FAILED, "no")
        raise RuntimeError
    assert webhooks.deliver(message_of) == 0


def test_a_webhook_that_does_not_listen_is_told_later_in_order_and_says_why_meanwhile(service, webhooks, listener):
    webhooks.add("https://ours/hook")
    fail(service, "mine")
    fail(service, "other")
    listener.deaf = True
    assert webhooks.deliver(message_of) == 0
    assert webhooks.list_all()[0].error == "it answered 500"
    listener.deaf = False
    assert webhooks.deliver(message_of) == 0, "a pause comes first"
    pass_time(service)
    assert webhooks.deliver(message_of) == 2
    assert [message["event"]["study"] for _, message, _ in listener.heard] == ["mine", "other"]
    assert webhooks.list_all()[0].error == ""


def test_pauses_grow_and_a_message_is_given_up_in_the_end(service, webhooks, listener):
    pauses = [pause_after(attempt) for attempt in range(1, MOST_ATTEMPTS)]
    assert pauses[:3] == [15.0, 30.0, 60.0]
    assert pauses == sorted(pauses)
    assert max(pauses) == 3600.0
    webhooks.add("https://ours/hook")
    fail(service, "mine")
    listener.deaf = True
    for _ in range(MOST_ATTEMPTS):
        webhooks.deliver(message_of)
        pass_time(service)
    listener.deaf = False
    assert webhooks.deliver(message_of) == 0
    assert listener.heard == []


def test_two_servers_tell_it_once(service, webhooks, listener, tmp_path):
    webhooks.add("https://ours/hook")
    fail(service, "mine")
    second = Service(service.settings)
    during: list[int] = []

    def meanwhile(*given: Any, **named: Any) -> None:
        during.append(replace(second.webhooks, post=listener).deliver(message_of))
        listener(*given, **named)

    replace(webhooks, post=meanwhile).deliver(message_of)
    second.db.dispose()
    assert during == [0]
    assert len(listener.heard) == 1


def test_a_test_says_whether_it_was_taken(webhooks, listener):
    added = webhooks.add("https://ours/s3cret-path")
    webhooks.test(added.id)
    assert listener.heard[0][2] == "test"
    listener.deaf = True
    with pytest.raises(HpoServiceError, match="did not take") as found:
        webhooks.test(added.id)
    assert "s3cret" not in str(found.value)
    with pytest.raises(NotFoundError):
        webhooks.test("none")
    webhooks.remove(added.id)
    with pytest.raises(NotFoundError):
        webhooks.remove(added.id)


@pytest.mark.parametrize("url", ["ftp://a/", "https://", "a", "http://a b/", "http://[::1/", "http://a:99999/"])
def test_what_is_no_url_is_refused(webhooks, url):
    with pytest.raises(UsageError, match="write https"):
        webhooks.add(url)
