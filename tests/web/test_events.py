"""Events over HTTP: listed, and followed as server-sent events that end with whoever asked or is asked."""

from __future__ import annotations

import asyncio
import json

import pytest

from hpo_service.domain.access import Role
from hpo_service.domain.trial.states import StudyState
from hpo_service.web.api import events
from hpo_service.web.api.events import Streams
from tests.web.conftest import Site, on_both


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(events, "LOOK_SECONDS", 0.01)


def kinds(answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [event["kind"] for event in answer.json]


def sent(text: str) -> list[dict]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def following(site: Site, target: str, until, act=lambda: None, **headers: str) -> str:
    """Follow a stream until what it said is enough, then leave; what it said."""
    path, _, query = target.partition("?")
    given = {"authorization": f"Bearer {site.secrets[Role.VIEWER]}", "host": "testserver", **headers}
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("10.0.0.1", 1), "server": ("testserver", 80),
    }  # fmt: skip

    async def follow() -> str:
        said, left, begun, asked = "", asyncio.Event(), asyncio.Event(), False

        async def receive():
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            nonlocal said
            said += message.get("body", b"").decode()
            if "retry:" in said:
                begun.set()
            if until(said):
                left.set()

        stream = asyncio.create_task(site.app(scope, receive, send))
        await asyncio.wait([stream, asyncio.create_task(begun.wait())], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(act)
        await asyncio.wait_for(stream, 30)
        return said

    return asyncio.run(follow())


@pytest.fixture
def live(sites):
    """A site whose streams stay open."""
    site = Site(sites().service, streams=Streams(most=2))
    from tests.web.conftest import study_file

    assert site.operator("POST", "/v1/studies", study_file()).status == 201
    return site


@on_both
def test_events_are_listed_of_a_study_a_trial_and_a_worker(site):
    site.run("mine")
    everything = site.viewer("GET", "/v1/events").json
    assert kinds(site.viewer("GET", "/v1/studies/mine/events"))[:2] == ["study_created", "stage_opened"]
    assert kinds(site.viewer("GET", "/v1/studies/mine/trials/search/0/events")) == ["trial_claimed", "trial_complete"]
    assert kinds(site.viewer("GET", "/v1/workers/w1/events"))[0] == "worker_joined"
    assert [event["id"] for event in site.viewer("GET", "/v1/events?limit=2").json] == [
        event["id"] for event in everything[-2:]
    ]
    after = everything[1]["id"]
    assert site.viewer("GET", f"/v1/events?after={after}&study=mine").json == everything[2:][-2:]


def test_who_steers_a_study_over_http_is_in_its_events(site):
    site.operator("POST", "/v1/studies/mine/pause", {"reason": "night"})
    (last,) = site.viewer("GET", "/v1/studies/mine/events?limit=1").json
    assert (last["kind"], last["reason"], last["details"]["by"]) == ("study_paused", "night", "the operator")


def test_events_of_what_is_not_there_are_not_found(site):
    for path in (
        "/v1/studies/none/events",
        "/v1/studies/none/events/stream",
        "/v1/studies/mine/trials/confirm/0/events",
    ):
        assert site.viewer("GET", path).status == 404
    assert site.viewer("GET", "/v1/events?limit=0").status == 422


@on_both
def test_a_stream_sends_what_happens_from_now_on_and_ends_when_the_asker_leaves(live):
    pause = lambda: live.service.studies.steer("mine", StudyState.PAUSED, "night", by="ann")  # noqa: E731
    said = following(live, "/v1/studies/mine/events/stream", lambda said: "study_paused" in said, pause)
    assert [event["kind"] for event in sent(said)] == ["study_paused"]
    assert live.streams._open == 0


def test_a_stream_from_an_id_on_sends_everything_after_it_once(live):
    live.run("mine")
    said = following(live, "/v1/events/stream?after=1", lambda said: "trial_complete" in said)
    assert [e["id"] for e in sent(said)] == [e["id"] for e in live.viewer("GET", "/v1/events?after=1").json]


def test_a_stream_that_goes_on_repeats_only_what_may_have_shown_late(live):
    live.run("mine")
    listed = live.viewer("GET", "/v1/events").json
    with live.service.db.transaction():
        live.service.db.connection.exec_driver_sql("UPDATE hpo_event SET at = at - 1000 WHERE id <= 2")
    last = listed[3]["id"]
    said = following(live, "/v1/events/stream", lambda said: "trial_complete" in said, **{"last-event-id": str(last)})
    assert [event["id"] for event in sent(said)] == [event["id"] for event in listed if event["id"] > 2]


def test_a_silent_stream_says_now_and_then_that_it_lives(live, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.0)
    assert ": still here" in following(live, "/v1/events/stream", lambda said: "still here" in said)


def test_a_stream_of_a_study_that_is_deleted_says_so_and_ends(live):
    said = following(
        live, "/v1/studies/mine/events/stream", lambda _: False, lambda: live.service.studies.delete("mine")
    )
    assert "there is no study 'mine'" in sent(said)[-1]["reason"]


def test_there_are_only_so_many_streams_and_a_place_is_free_again(live):
    live.streams.enter()
    live.streams.enter()
    answer = live.viewer("GET", "/v1/events/stream")
    assert (answer.status, answer.headers["retry-after"]) == (429, "30")
    live.streams.leave()
    assert "retry" in following(live, "/v1/events/stream", lambda said: "retry" in said)


def test_streams_end_when_the_server_is_to_end(live):
    said = following(live, "/v1/events/stream", lambda _: False, lambda: setattr(live.streams, "stopping", True))
    assert said.startswith("retry")
    live.streams.stopping = False
    assert live.streams._open == 0
