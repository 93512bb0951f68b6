"""Pages for browsers: what they show to whom, and that nothing in them is taken for markup."""

from __future__ import annotations

import re

import pytest

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.report import Report
from tests.counting import statements
from tests.web.conftest import study_file

EVIL = "<script>alert(1)</script> & \"it\" ''"
FORM = {"Content_Type": "application/x-www-form-urlencoded"}


def acts_in(text: str) -> set[str]:
    return set(re.findall(r'href="[^"]*/acts/(\w+)"', text))


def test_the_overview_shows_stage_progress_best_value_and_time(site):
    site.run("mine", 0.25)
    text = site.viewer("GET", "/").text
    assert 'href="/studies/mine"' in text
    assert "0.2500" in text
    assert "1/5" in text
    assert "waiting for a worker" in text


def test_the_overview_asks_the_database_no_more_for_many_studies(site):
    def asked() -> int:
        with statements(site.service.db) as seen:
            assert site.viewer("GET", "/").status == 200
        return len(seen)

    asked()  # notes that the token was used
    before = asked()
    for number in range(20):
        site.operator("POST", "/v1/studies", study_file(f"study-{number}"))
    assert asked() == before


def test_the_overview_is_paged(site, monkeypatch):
    monkeypatch.setattr("hpo_service.web.pages.home.MOST_STUDIES", 2)
    for number in range(4):
        site.operator("POST", "/v1/studies", study_file(f"study-{number}"))
    first = site.viewer("GET", "/").text
    assert re.findall(r'href="/studies/([\w-]+)"', first) == ["study-3", "study-2"]
    assert "/?page=2" in first
    assert re.findall(r'href="/studies/([\w-]+)"', site.viewer("GET", "/?page=3").text) == ["mine"]


def test_a_studys_page_shows_its_running_trials_with_worker_devices_and_curve(site):
    assignment = site.claim("mine")
    for step in (1, 2):
        site.service.queue.report(assignment.lease, Report(step=step, fraction=step / 4, value=1.0 / step))
    text = site.viewer("GET", "/studies/mine").text
    assert "search #0" in text
    assert ">w1<" in text
    assert ">cpu<" in text
    assert 'aria-label="from 1.0000 to 0.5000 in 2 reports"' in text
    assert "trial claimed" in text


def test_a_page_asked_for_by_its_own_script_is_only_what_refreshes(site):
    whole, part = site.viewer("GET", "/studies/mine").text, site.viewer("GET", "/studies/mine", HX_Request="true").text
    assert "<html" in whole
    assert "<html" not in part
    assert part.strip().startswith('<div id="live"')
    assert 'id="more"' in part


def test_a_trials_page_shows_parameters_curve_attempts_and_reason(site):
    site.run("mine", 0.125)
    text = site.viewer("GET", "/studies/mine/trials/search/0").text
    assert "for a test" in text
    assert "0.1250" in text
    assert "<svg" in text
    assert ">w1<" in text
    assert "/dashboard/studies/1/trials?numbers=0" in text


def test_the_list_of_trials_is_paged_and_filtered(site, monkeypatch):
    monkeypatch.setattr("hpo_service.web.pages.studies.MOST_TRIALS", 2)
    for kind in (OutcomeKind.COMPLETE, OutcomeKind.INFEASIBLE, OutcomeKind.COMPLETE):
        site.run("mine", kind=kind)
    first = site.viewer("GET", "/studies/mine/trials").text
    assert re.findall(r"trials/search/(\d)", first) == ["0", "1"]
    following = re.search(r'href="(/studies/mine/trials\?[^"]*cursor=\d+)"', first)
    assert following is not None
    assert re.findall(r"trials/search/(\d)", site.viewer("GET", following[1].replace("&amp;", "&")).text) == ["2"]
    assert re.findall(r"trials/search/(\d)", site.viewer("GET", "/studies/mine/trials?state=infeasible").text) == ["1"]


def test_the_pictures_are_the_reports(site):
    site.run("mine", 0.5)
    text = site.viewer("GET", "/studies/mine/pictures").text
    assert "Learning curves of all search trials" in text
    assert site.viewer("GET", "/studies/mine/pictures").text == text


def test_pages_hold_no_style_and_no_script_of_their_own(site):
    site.run("mine")
    site.claim("mine")
    for path in ("/", "/studies/mine", "/studies/mine/pictures", "/studies/mine/trials/search/0", "/workers", "/login"):
        text = site.operator("GET", path).text
        assert not re.search(r"<[^<>]*\sstyle=", text), path
        assert "<style" not in text
        assert not re.search(r"<script(?![^>]* src=)", text), path
        assert not re.search(r"<[^<>]*\son\w+=", text), path


def test_workers_are_shown_with_what_they_run_and_where(site):
    assignment = site.claim("mine")
    site.service.queue.report(assignment.lease, Report(step=1, fraction=0.5, value=1.0, metrics={"memory_gb": 7.25}))
    text = site.viewer("GET", "/workers").text
    for shown in ("w1", ">host<", "mine/search #0", "7.2 GB", "ago"):
        assert shown in text


def test_names_and_reasons_are_text_and_never_markup(site):
    site.run("mine")
    site.operator("POST", "/v1/studies/mine/trials/search/0/retry")
    site.claim("mine")
    site.operator("POST", "/v1/studies/mine/trials/search/1/stop", {"reason": EVIL})
    site.operator("POST", "/v1/studies/mine/pause", {"reason": EVIL})
    with site.service.db.transaction():
        site.service.worker_rows.register(EVIL, EVIL, 1, "0", EVIL)
    for path in ("/", "/studies/mine", "/studies/mine/trials", "/studies/mine/trials/search/1", "/workers"):
        text = site.operator("GET", path).text
        assert "<script>alert" not in text, path
    assert "&lt;script&gt;alert" in site.operator("GET", "/studies/mine").text


@pytest.mark.parametrize("state,offered", [("active", {"pause", "drain", "cancel"}), ("paused", {"resume", "cancel"})])
def test_operators_are_offered_what_a_studys_state_allows_and_viewers_nothing(site, state, offered):
    if state == "paused":
        site.operator("POST", "/v1/studies/mine/pause")
    assert acts_in(site.operator("GET", "/studies/mine").text) == offered
    assert acts_in(site.viewer("GET", "/studies/mine").text) == set()


def test_an_act_asks_once_and_is_done_with_its_reason_by_who_did_it(site):
    asked = site.operator("GET", "/studies/mine/acts/pause").text
    assert "Pause?" in asked
    assert site.service.reader.snapshot("mine").state == "active"
    answer = site.operator("POST", "/studies/mine/acts/pause", "reason=nodes+are+needed", **FORM)
    assert (answer.status, answer.headers["location"]) == (303, "/studies/mine")
    assert site.service.reader.snapshot("mine").reason == "nodes are needed"
    assert site.service.events.list("mine")[-1].details["by"] == "the operator"
    assert site.operator("POST", "/studies/mine/acts/resume", "", **FORM).status == 303
    assert site.service.reader.snapshot("mine").reason == "resumed by the operator"


def test_trials_are_stopped_and_retried_and_workers_drained_from_their_pages(site):
    site.claim("mine")
    assert acts_in(site.operator("GET", "/studies/mine/trials/search/0").text) == {"stop"}
    assert site.operator("POST", "/studies/mine/trials/search/0/acts/stop", "", **FORM).status == 303
    assert "trial stop asked" in site.viewer("GET", "/studies/mine/trials/search/0").text
    assert site.operator("POST", "/workers/w1/acts/drain", "reason=bye", **FORM).headers["location"] == "/workers"
    assert "bye" in site.viewer("GET", "/workers").text


def test_what_cannot_be_done_is_said_on_a_page_to_browsers_and_as_a_document_to_programs(site):
    site.run("mine")
    path = "/studies/mine/trials/search/0/acts/stop"
    shown = site.operator("POST", path, "", Accept="text/html", **FORM)
    assert (shown.status, shown.headers["content-type"]) == (409, "text/html; charset=utf-8")
    assert "there is nothing to stop" in shown.text
    assert site.operator("POST", path, "", **FORM).headers["content-type"] == "application/problem+json"
    assert "there is no study" in site.viewer("GET", "/studies/none", Accept="text/html").text


@pytest.mark.parametrize("path", ["/studies/mine/acts/delete", "/workers/w1/acts/kill", "/workers/none/acts/drain"])
def test_acts_and_things_that_are_not_there_are_not_asked_about(site, path):
    assert site.operator("GET", path).status == 404


def test_everything_pages_load_is_on_this_server(site):
    for path in re.findall(r'(?:src|href)="(/assets/[^"]+)"', site.viewer("GET", "/").text):
        assert site.stranger("GET", path).status == 200, path
    assert "light dark" in site.stranger("GET", "/assets/colours.css").text


def test_pages_live_under_a_base_path(sites):
    site = sites(base_path="/hpo")
    site.operator("POST", "/v1/studies", study_file())
    text = site.viewer("GET", "/studies/mine").text
    assert 'href="/hpo/studies/mine/trials"' in text
    assert 'href="/studies' not in text
    answer = site.operator("POST", "/studies/mine/acts/pause", "", **FORM)
    assert answer.headers["location"] == "/hpo/studies/mine"
