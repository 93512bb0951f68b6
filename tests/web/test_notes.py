"""What optuna-dashboard shows of ours: verdict and links at a study, reason and diagnosis at a trial."""

from __future__ import annotations

import pytest

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.presentation.notes import SIGNED, text
from hpo_service.web.pages.findings import Findings
from hpo_service.web.pages.notes import DashboardNotes
from tests.counting import statements
from tests.web.conftest import on_both


@pytest.fixture
def notes(site) -> DashboardNotes:
    return DashboardNotes(site.service, Findings(site.service.overview, site.service.reader), "/hpo")


def shown(site) -> tuple[str, dict[int, str]]:
    """The study's note and those of its trials, as optuna-dashboard gives them out."""
    (summary,) = site.viewer("GET", "/api/studies").json["study_summaries"]
    detail = site.viewer("GET", f"/api/studies/{summary['study_id']}").json
    return detail["note"]["body"], {trial["number"]: trial["note"]["body"] for trial in detail["trials"]}


@on_both
def test_a_studys_note_has_verdict_and_links_and_a_trials_its_reason(site, notes):
    site.run("mine", 0.5)
    site.run("mine", kind=OutcomeKind.INFEASIBLE)
    notes.round()
    study, trials = shown(site)
    assert "not confirmed: search" in study
    assert "(/hpo/studies/mine)" in study
    assert "(/hpo/v1/studies/mine/report.html)" in study
    assert trials[0] == ""
    assert "**infeasible**: for a test" in trials[1]
    assert "(/hpo/studies/mine/trials/search/1)" in trials[1]


def test_a_note_is_written_again_only_when_something_has_ended(site, notes):
    site.run("mine", 0.5)
    notes.round()
    before = shown(site)
    with statements(site.service.db) as seen:
        notes.round()
    assert not [each for each in seen if not each.lstrip().upper().startswith(("SELECT", "PRAGMA", "BEGIN"))]
    site.run("mine", 0.25)
    notes.round()
    assert shown(site)[0] != before[0]


def test_a_note_that_somebody_wrote_stays(sites):
    site = sites(allow_dashboard_writes=True)
    site.operator(
        "POST", "/v1/studies", "name: a\nobjective: {python: 'a:b'}\nspace: {parameters: {x: {low: 0, high: 1}}}"
    )
    site.operator("PUT", "/api/studies/1/note", {"body": "look at this", "version": 1})
    DashboardNotes(site.service, Findings(site.service.overview, site.service.reader)).round()
    assert shown(site)[0] == "look at this"


def test_a_server_that_starts_again_writes_no_note_twice(site, notes):
    site.run("mine", 0.5)
    notes.round()
    (summary,) = site.viewer("GET", "/api/studies").json["study_summaries"]

    def version() -> int:
        return int(site.viewer("GET", f"/api/studies/{summary['study_id']}").json["note"]["version"])

    before = version()
    DashboardNotes(site.service, Findings(site.service.overview, site.service.reader), "/hpo").round()
    assert version() == before


def test_the_overview_shows_a_verdict_once_it_was_found(site):
    state = site.app.app.state.web
    site.run("mine", 0.5)
    assert "not compared" not in site.viewer("GET", "/").text
    DashboardNotes(site.service, state.findings).round()
    assert "not compared" in site.viewer("GET", "/").text


@pytest.mark.parametrize(
    "words,written",
    [("a <b> & *c*", r"a &lt;b&gt; &amp; \*c\*"), ("[x](http://e)\n# h", r"\[x\]\(http://e\) \# h"), ("z" * 700, None)],
)
def test_words_are_no_markup(words, written):
    assert text(words) == written or (written is None and len(text(words)) == 600)
    assert SIGNED not in text(SIGNED)
