"""The JSON API: what each noun answers, and that what is answered is what the database says."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from sqlalchemy import text

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import DatabaseUnavailableError
from tests.web.conftest import on_both, study_file


def problem(answer, status: int) -> str:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json
    assert document["status"] == status
    assert document["type"].startswith("urn:hpo-service:problem:")
    assert "\n" not in document["detail"]
    return document["detail"]


# studies


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_a_study_is_created_from_json_as_from_yaml(site, kind):
    document = {
        "name": "other",
        "objective": {"python": "nobody:calls_it"},
        "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
        "search": {"budget": {"trials": 3}},
    }
    text = json.dumps(document, indent="\t")
    answer = site.operator("POST", "/v1/studies", text, Content_Type=kind)
    assert answer.json == {"name": "other", "state": "active", "reason": "created"}
    assert [line["name"] for line in site.viewer("GET", "/v1/studies").json] == ["mine", "other"]


def test_the_very_same_study_again_changes_nothing_and_another_of_its_name_is_refused(site):
    assert site.operator("POST", "/v1/studies", study_file()).status == 201
    assert "budget.trials" in problem(site.operator("POST", "/v1/studies", study_file(trials=6)), 409)


def test_a_wrong_study_file_is_refused_with_line_and_key(site):
    answer = site.operator("POST", "/v1/studies", study_file().replace("trials:", "trails:"))
    assert "trails" in problem(answer, 422)
    assert (answer.json["line"], answer.json["key"]) == (4, "search.budget.trails")


def test_validating_creates_nothing(site):
    answer = site.viewer("POST", "/v1/validate", study_file("never"))
    assert answer.json["study"]["name"] == "never"
    assert answer.json["warnings"] == []
    assert problem(site.viewer("GET", "/v1/studies/never"), 404)


def test_a_study_file_that_was_sent_looks_at_no_file_of_the_server(site, tmp_path):
    there = tmp_path / "rows.jsonl"
    there.write_text('{"text": "a"}\n')
    sent = "name: a\nmodel: {{base: builtin:llama-tiny}}\ndata: {{source: {}}}\n"
    answers = [site.viewer("POST", "/v1/validate", sent.format(path)) for path in (there, "/nowhere/rows.jsonl")]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json["study"]["data"]["source"] == str(there)
    for relative in ("rows.jsonl", "./rows.jsonl", "~/rows.jsonl", "../rows.jsonl"):
        assert "write an absolute path" in problem(site.viewer("POST", "/v1/validate", sent.format(relative)), 422)


def test_a_study_is_shown_with_counts_best_cost_and_verdict_and_what_the_command_line_says_of_its_stages(site):
    from hpo_service.presentation.documents.study import study_document

    site.run("mine", value=0.7)
    site.run("mine", value=0.3)
    shown = site.viewer("GET", "/v1/studies/mine").json
    expected = json.loads(json.dumps(study_document(site.service.reader.snapshot("mine"))))
    trials = [stage.pop("trials") for stage in expected["stages"]]
    assert shown["stages"][0].pop("best")["number"] == trials[0][1]["number"]
    cost = shown["stages"][0].pop("cost")
    assert cost["device_seconds"] == pytest.approx(sum(trial["device_seconds"] for trial in trials[0]))
    assert shown.pop("cost")["device_seconds"] == cost["device_seconds"]
    assert shown.pop("verdict")["verdict"] == "not compared"
    assert {**shown, "now": 0} == {**expected, "now": 0}


def test_studies_are_listed_with_stage_and_progress_and_those_of_another_version_with_the_reason(site):
    site.operator("POST", "/v1/studies", study_file("other"))
    for _ in range(2):
        site.run("mine")
    site.claim("mine")
    with site.service.db.transaction():
        broken = text('UPDATE hpo_study SET spec = \'{"name": "other", "odd": 1}\' WHERE name = \'other\'')
        site.service.db.connection.execute(broken)
    mine, other = site.viewer("GET", "/v1/studies").json
    assert (mine["stage"], mine["trials_ended"], mine["trials_budget"]) == ("search", 2, 5)
    assert mine["created_at"] == site.service.reader.snapshot("mine").created_at
    assert other["state"] == "unreadable"
    assert "made by another version" in other["reason"]
    assert site.viewer("GET", "/").status == 200


@on_both
def test_studies_are_steered_with_a_reason_that_names_who(site):
    for verb, state in [("drain", "draining"), ("pause", "paused"), ("resume", "active"), ("cancel", "cancelled")]:
        answer = site.operator("POST", f"/v1/studies/mine/{verb}")
        assert answer.json["state"] == state
        assert answer.json["reason"].endswith("by the operator")
    answer = site.operator("POST", "/v1/studies/mine/resume", {"reason": "a mistake"})
    assert answer.json["reason"] == "a mistake"
    assert "cannot become" not in problem(site.operator("POST", "/v1/studies/mine/pause", {"why": "x"}), 422)


def test_what_a_studys_state_does_not_allow_is_a_conflict(site):
    site.operator("POST", "/v1/studies/mine/cancel")
    assert "is cancelled" in problem(site.operator("POST", "/v1/studies/mine/pause"), 409)
    site.operator("POST", "/v1/studies/mine/resume")
    site.claim("mine")
    assert "running" in problem(site.admin("DELETE", "/v1/studies/mine"), 409)


def test_a_study_is_deleted(site):
    assert site.admin("DELETE", "/v1/studies/mine").status == 204
    assert "there is no study 'mine'" in problem(site.viewer("GET", "/v1/studies/mine"), 404)


def test_an_unknown_name_is_answered_with_the_nearest(site):
    assert "did you mean mine" in problem(site.viewer("GET", "/v1/studies/mien"), 404)


# trials


@on_both
def test_trials_are_walked_through_page_by_page(site):
    for _ in range(5):
        site.run("mine")
    pages, cursor = [], "0"
    while cursor is not None:
        page = site.viewer("GET", f"/v1/studies/mine/trials?limit=2&cursor={cursor}").json
        pages.append([trial["number"] for trial in page["trials"]])
        cursor = page["next"]
    assert pages == [[0, 1], [2, 3], [4]]


@on_both
def test_trials_are_filtered_by_stage_state_and_worker(site):
    site.run("mine")
    held = site.claim("mine")
    ask = lambda query: [t["number"] for t in site.viewer("GET", f"/v1/studies/mine/trials?{query}").json["trials"]]  # noqa: E731
    assert ask("state=running") == [held.number]
    assert ask("state=running&state=complete") == [0, 1]
    assert ask("worker=w1") == [held.number]
    assert ask("stage=search") == [0, 1]
    assert "has not been opened" in problem(site.viewer("GET", "/v1/studies/mine/trials?stage=confirm"), 404)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "cursor=-1",
        "cursor=99999999999999999999",
        "cursor=x",
        "state=odd",
        "worker=%00",
        "stage=%0a",
    ],
)
def test_odd_filters_are_refused(site, query):
    problem(site.viewer("GET", f"/v1/studies/mine/trials?{query}"), 422)


def test_a_trial_is_shown_with_curve_and_attempts(site):
    site.run("mine", value=0.25)
    trial = site.viewer("GET", "/v1/studies/mine/trials/search/0").json
    assert [point["value"] for point in trial["curve"]] == [0.25]
    assert [attempt["worker_id"] for attempt in trial["attempts"]] == ["w1"]
    problem(site.viewer("GET", "/v1/studies/mine/trials/search/7"), 404)
    problem(site.viewer("GET", "/v1/studies/mine/trials/nowhere/0"), 404)
    problem(site.viewer("GET", "/v1/studies/mine/trials/search/99999999999999"), 422)


def test_a_trial_is_stopped_and_tried_again(site):
    held = site.claim("mine")
    assert site.operator("POST", "/v1/studies/mine/trials/search/0/stop", {"reason": "diverging"}).status == 200
    decision = site.service.queue.finish
    from hpo_service.domain.trial.outcome import Outcome

    decision(held.lease, Outcome(kind=OutcomeKind.CANCELLED, reason="diverging"))
    again = site.operator("POST", "/v1/studies/mine/trials/search/0/retry")
    assert again.json["state"] == "waiting"
    problem(site.operator("POST", "/v1/studies/mine/trials/search/0/retry"), 404)


# what was found


def test_verdict_report_and_configuration_are_there_from_the_first_trial_on(site):
    assert site.viewer("GET", "/v1/studies/mine/verdict").status == 200
    site.run("mine")
    assert site.viewer("GET", "/v1/studies/mine/verdict").json["study"] == "mine"
    report = site.viewer("GET", "/v1/studies/mine/report.html")
    assert report.text.lstrip().lower().startswith("<!doctype html>")
    assert "script-src" not in report.headers["content-security-policy"]
    assert "default-src 'none'" in report.headers["content-security-policy"]
    assert "study: mine" in site.viewer("GET", "/v1/studies/mine/best.yaml").text


def test_tables_come_as_one_archive(site):
    site.run("mine")
    answer = site.viewer("GET", "/v1/studies/mine/exports/csv")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert {"trials.csv", "curves.csv", "attempts.csv", "scores.csv"} == set(archive.namelist())
        assert archive.read("trials.csv").count(b"\n") == 2
    assert "csv" in problem(site.viewer("GET", "/v1/studies/mine/exports/best"), 404)


# workers and tokens


def test_workers_are_listed_and_drained(site):
    site.claim("mine")
    assert [worker["id"] for worker in site.viewer("GET", "/v1/workers").json] == ["w1"]
    assert site.operator("POST", "/v1/workers/w1/drain").json == {"id": "w1", "reason": "asked for by the operator"}
    assert site.viewer("GET", "/v1/workers").json[0]["state"] == "draining"
    assert "did you mean w1" in problem(site.operator("POST", "/v1/workers/w2/drain"), 404)


def test_a_token_is_made_used_and_revoked_and_its_secret_is_shown_once(site):
    made = site.admin("POST", "/v1/tokens", {"name": "grafana", "role": "viewer", "days": 1}).json
    assert site.stranger.by(made["secret"])("GET", "/v1/me").json["name"] == "grafana"
    listed = site.admin("GET", "/v1/tokens")
    assert made["secret"].rpartition("_")[2] not in listed.text
    assert "hash" not in listed.text
    assert site.admin("DELETE", f"/v1/tokens/{made['id']}").status == 200
    assert site.stranger.by(made["secret"])("GET", "/v1/me").status == 401
    problem(site.admin("DELETE", "/v1/tokens/nobody"), 404)


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"role": "root"},
        {"days": 0},
        {"days": 1e9},
        {"more": 1},
        {"name": 1},
        {"name": None},
    ],
)
def test_a_token_that_nobody_could_mean_is_not_made(site, body):
    problem(site.admin("POST", "/v1/tokens", {"name": "a", "role": "viewer", **body}), 422)


# idempotency


@on_both
def test_a_request_with_a_key_is_done_once(site):
    answers = [site.operator("POST", "/v1/studies", study_file("once"), Idempotency_Key="k1") for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].json == answers[1].json
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true"]


def test_a_trial_is_not_tried_again_twice_by_one_key(site):
    site.run("mine", kind=OutcomeKind.ERROR)
    held = site.claim("mine")
    site.operator("POST", f"/v1/studies/mine/trials/search/{held.number}/stop")
    from hpo_service.domain.trial.outcome import Outcome

    site.service.queue.finish(held.lease, Outcome(kind=OutcomeKind.CANCELLED, reason="stopped"))
    path = f"/v1/studies/mine/trials/search/{held.number}/retry"
    answers = [site.operator("POST", path, Idempotency_Key="again") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert site.operator("POST", path, Idempotency_Key="another").status == 404


def test_a_key_is_not_used_for_two_requests(site):
    site.operator("POST", "/v1/studies", study_file("one"), Idempotency_Key="k")
    assert "another request" in problem(
        site.operator("POST", "/v1/studies", study_file("two"), Idempotency_Key="k"), 409
    )
    assert site.admin("POST", "/v1/studies", study_file("two"), Idempotency_Key="k").status == 201


def test_a_request_that_failed_leaves_its_key_free(site):
    assert site.operator("POST", "/v1/studies", study_file(trials=7), Idempotency_Key="k").status == 409
    assert site.operator("POST", "/v1/studies", study_file("seven", trials=7), Idempotency_Key="k").status == 201


# the machine


@on_both
def test_metrics_count_what_is_in_the_database(site):
    site.run("mine")
    site.claim("mine")
    text = site.viewer("GET", "/metrics").text
    for line in (
        "hpo_database_up 1.0",
        'hpo_studies{state="active"} 1.0',
        'hpo_trials{state="running"} 1.0',
        'hpo_trials{state="failed"} 0.0',
        'hpo_workers{state="active"} 1.0',
    ):
        assert line in text.splitlines()


def test_while_the_database_is_away_requests_say_so_and_the_server_lives(site, monkeypatch):
    def away(*_, **__):
        raise DatabaseUnavailableError("the database is not available: check that it runs")

    monkeypatch.setattr(site.service.db, "transaction", away)
    for method, path in [("GET", "/v1/studies"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/api/studies")]:
        answer = site.viewer(method, path)
        assert "not available" in problem(answer, 503)
        assert answer.headers["retry-after"]
    assert site.stranger("GET", "/healthz").status == 200
    assert site.stranger("HEAD", "/healthz").status == 200
    assert site.stranger("HEAD", "/readyz").status == 503


def test_metrics_say_that_the_database_is_away(site, monkeypatch):
    def away():
        raise DatabaseUnavailableError("away")

    site.app.app.state.metrics.read = away
    assert "hpo_database_up 0.0" in site.viewer("GET", "/metrics").text.splitlines()


def test_a_database_of_another_revision_is_not_ready(site):
    assert site.stranger("GET", "/readyz").json == {"status": "ready"}
    with site.service.db.transaction():
        site.service.db.connection.execute(text("UPDATE hpo_alembic_version SET version_num = '0001'"))
    assert "hpo-service db upgrade" in problem(site.stranger("GET", "/readyz"), 503)


def test_the_password_of_the_database_is_in_no_answer(monkeypatch, tmp_path):
    from hpo_service.bootstrap import Service
    from hpo_service.settings import Settings
    from hpo_service.web.app import build_app
    from hpo_service.web.options import ServeOptions
    from tests.web.asking import Asker

    url = "postgresql://hpo:hunter2@127.0.0.1:9/hpo?password=hunter2"
    service = Service(Settings.read(storage=url))
    asker = Asker(build_app(service, ServeOptions(), background=False))
    for path in ("/readyz", "/metrics", "/v1/studies", "/login", "/api/studies"):
        answer = asker.by("hpo_00000000_00")("GET", path)
        assert "hunter2" not in answer.text
        assert answer.status in {200, 503}
    service.db.dispose()
