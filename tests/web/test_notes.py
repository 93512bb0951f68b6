"""What optuna-dashboard shows of ours: verdict and links at a study, reason and diagnosis at a trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.errors import NotFoundError
from hpo_service.presentation.notes import SIGNED, text
from hpo_service.web.dashboard.notes import DashboardNotes
from hpo_service.web.pages.findings import Findings
from tests.counting import statements
from tests.web.conftest import on_both, study_file


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


def artifacts_of(site) -> tuple[list[dict], dict[int, list[dict]], int]:
    """What optuna-dashboard lists of the latest study: its own, and by trial; and the study's number there."""
    summary = max(site.viewer("GET", "/api/studies").json["study_summaries"], key=lambda each: each["study_id"])
    detail = site.viewer("GET", f"/api/studies/{summary['study_id']}").json
    return detail["artifacts"], {each["number"]: each["artifacts"] for each in detail["trials"]}, summary["study_id"]


@pytest.fixture
def confirmed(site, tmp_path):
    """A site whose study has come to its confirm runs; the first of them kept an adapter."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text("{}")
    (folder / "token.txt").write_text("secret")
    text = study_file("two", trials=1).replace("confirm: {enabled: false}", "confirm: {seeds: 2}")
    assert site.operator("POST", "/v1/studies", text).status == 201
    site.run("two", 0.5)
    site.service.stages.advance_all()
    assignment = site.claim("two")
    assert assignment.stage == "confirm"
    site.service.queue.report(assignment.lease, Report(step=1, fraction=1.0, value=0.5))
    outcome = Outcome(kind=OutcomeKind.COMPLETE, value=0.5, reason="for a test", adapter=str(folder))
    site.service.queue.finish(assignment.lease, outcome)
    return site, folder


@on_both
def test_the_report_and_the_adapters_that_lie_here_are_artifacts(confirmed, notes):
    site, _ = confirmed
    notes.round()
    (report,), of_trials, study = artifacts_of(site)
    page = site.viewer("GET", f"/artifacts/{study}/{report['artifact_id']}")
    assert page.headers["content-type"].startswith("text/html")
    assert "two" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    weights, config = of_trials[0]
    assert (weights["filename"], config["filename"]) == ("adapter_model.safetensors", "adapter_config.json")
    trial = site.viewer("GET", f"/api/studies/{study}").json["trials"][0]["trial_id"]
    assert site.viewer("GET", f"/artifacts/{study}/{trial}/{weights['artifact_id']}").text == "weights"
    assert site.stranger("GET", f"/artifacts/{study}/{trial}/{weights['artifact_id']}").status == 401


def test_an_artifact_that_is_gone_or_a_link_is_said_to_be_missing(confirmed, notes, tmp_path):
    site, folder = confirmed
    notes.round()
    _, of_trials, study = artifacts_of(site)
    trial = site.viewer("GET", f"/api/studies/{study}").json["trials"][0]["trial_id"]
    weights, config = (f"/artifacts/{study}/{trial}/{each['artifact_id']}" for each in of_trials[0])
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").symlink_to(folder / "token.txt")
    for path in (weights, config):
        answer = site.viewer("GET", path)
        assert answer.status == 404
        assert "not on this machine" in answer.text


def test_a_folder_that_the_server_may_not_read_keeps_no_note_from_being_written(confirmed, notes, monkeypatch):
    site, folder = confirmed
    stat = Path.stat

    def refused(path: Path, **how):
        if folder in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **how)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", refused)
        notes.round()
    (report,), of_trials, _ = artifacts_of(site)
    assert report["filename"] == "report.html"
    assert of_trials[0] == []


@on_both
@pytest.mark.parametrize("path", ["/artifacts/{huge}/1", "/artifacts/1/{huge}/1-0", "/api/studies/{huge}"])
def test_a_number_that_is_too_large_for_the_database_is_not_found(site, path):
    assert site.viewer("GET", path.format(huge=10**22)).status == 404


@pytest.mark.parametrize("id", ["ffffff", "ffffff-0", "1-9", "a-b-c", "0" * 40])
def test_an_id_that_is_none_of_ours_finds_nothing(site, id):
    with pytest.raises(NotFoundError):
        site.service.artifacts.find(id)


@pytest.mark.parametrize("method,path", [("POST", "/api/artifacts/1"), ("DELETE", "/api/artifacts/1/a-0")])
def test_nobody_uploads_or_deletes_artifacts(sites, method, path):
    assert sites(allow_dashboard_writes=True).admin(method, path).status == 405
