"""The report: one file, no network, nothing unescaped, the verdict first."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.presentation.formatting import moment
from hpo_service.presentation.report.page import MOST_LINES, render, versions, write_report
from hpo_service.service.studies.findings.evidence import gather_evidence
from hpo_service.service.studies.snapshot import StudySnapshot
from tests.unit.presentation import story

EVIL = "<script>alert('x')</script> & $\\frac{1}{0}$ \"quoted\""
FIGURES = ("interval", "seeds", "history", "curves", "rates", "panels", "parallel", "bracket", "carried")


class Reader(HTMLParser):
    """Collects what the tests look at."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input", "use", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += " " if tag in ("th", "td", "dt", "dd", "li") else ""
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == [], "every tag is closed"
    reader.text = re.sub(r"\s+", " ", reader.text)
    return reader


def page_of(snapshot: StudySnapshot) -> str:
    return render(
        snapshot, gather_evidence(snapshot, lambda trial_id, split: story.scores(trial_id, split, finished=snapshot))
    )


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(story.snapshot())


def test_the_verdict_comes_first(page: str) -> None:
    text = read(page).text
    body = text[text.index("quickstart", text.index("quickstart") + 1) :]
    assert body.index("The winner is better than the default by 3.") < body.index("Search")
    assert '<div class="verdict better">' in page


def test_default_and_winner_stand_side_by_side(page: str) -> None:
    text = read(page).text
    assert "default winner 1" in text
    assert "learning_rate 2e-4 5.3e-4" in text
    assert "95% interval" in text


def test_the_page_is_one_file_that_fetches_nothing(page: str) -> None:
    reader = read(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert all(link.startswith("#") for link in reader.links)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_ids_are_unique_and_every_reference_finds_its_target(page: str) -> None:
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    wanted = {link[1:] for link in reader.links} | set(re.findall(r"url\(#([^)]+)\)", page))
    assert wanted <= set(reader.ids)


def test_headings_never_skip_a_level(page: str) -> None:
    levels = read(page).headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(here <= before + 1 for before, here in itertools.pairwise(levels))


def test_every_figure_is_drawn_and_named_and_takes_its_colours_from_the_page(page: str) -> None:
    assert page.count('<svg role="img" aria-label="') == len(FIGURES)
    assert all(f'id="{name}-' in page for name in FIGURES)
    assert "var(--winner)" in page
    assert not re.search(r"#0[1-7]0[1-7]0[0-7]\b", page), "no stand-in colour is left"
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_the_stages_tell_why(page: str) -> None:
    text = read(page).text
    assert "sampler gp proposes, pruner early_exit stops losers early" in text
    assert "only the better half (up to 3.211) goes on" in text
    assert "#1 (3.0020), #5 (3.0058), #15 (3.0165) went on to verify" in text
    assert "rank 32 x 2, at most 64, = 64" in text
    assert "the best trial lies at the edge of the bracket (x 2)" in text
    assert "in full with new seeds 1042, 1043, 1044" in text
    assert "out of memory: 24.1 GB needed" in text


def test_every_trial_is_in_the_table(page: str) -> None:
    assert page.count('<td class="reason">') == 16 + 9 + 6


def test_cost_versions_and_study_file_are_there(page: str) -> None:
    text = read(page).text
    assert "The saving is an estimate" in text
    assert "2.13.0+cpu" in text
    assert "source: builtin:stdlib-docstrings" in text


@pytest.mark.parametrize(
    "snapshot",
    [
        story.snapshot(story.search_stage(0)),
        story.snapshot(story.search_stage(7, 2)),
        story.snapshot(story.search_stage(), story.verify_stage(0)),
        story.snapshot(story.search_stage(), story.verify_stage(), story.confirm_stage(1)),
        story.snapshot(story.search_stage(), story.confirm_stage(gain=0.0), model={"base": "builtin:llama-tiny"}),
        replace(story.snapshot(story.search_stage(3)), state=StudyState.FAILED, reason="all failed"),
    ],
    ids=["empty", "search", "verify", "confirm", "no target", "failed"],
)
def test_a_study_can_be_reported_on_at_any_moment(snapshot: StudySnapshot) -> None:
    reader = read(page_of(snapshot))
    assert snapshot.name in reader.text
    assert "None" not in reader.text


def test_an_own_objective_is_reported_on_too() -> None:
    own: dict[str, Any] = {
        "objective": {"command": "train {depth}"},
        "space": {"parameters": {"depth": {"type": "int", "low": 1, "high": 9}, "kind": {"choices": ["$a", "<b>"]}}},
        "search": {"direction": "maximize"},
        "name": "own",
    }
    trials = [
        story.trial(n, n, TrialState.COMPLETE, {"depth": n, "kind": "$a" if n % 2 else "<b>"}, final=float(n))
        for n in range(1, 6)
    ]
    stage = story.with_trials(story.search_stage(), trials)
    base = story.snapshot(stage)
    snapshot = replace(base, spec=type(base.spec).model_validate(own))
    text = read(page_of(snapshot)).text
    assert "higher is better" in text
    assert "depth" in text


def test_everything_people_and_machines_wrote_is_escaped() -> None:
    stage = story.search_stage()
    trials = [
        replace(t, reason=EVIL, label=EVIL, worker=EVIL, facts=RunFacts.of({"torch": EVIL})) for t in stage.trials
    ]
    snapshot = story.snapshot(
        replace(stage, reason=EVIL, trials=trials), description=EVIL, model={"base": EVIL}, confirm={"enabled": False}
    )
    reader = read(page_of(replace(snapshot, reason=EVIL)))
    assert "script" not in reader.tags
    assert "<script>alert('x')</script>" in reader.text, "shown as it was written"


def test_a_long_list_of_stopped_trials_points_to_the_table() -> None:
    stage = story.search_stage()
    pruned = [t for t in stage.trials if t.state is TrialState.PRUNED]
    many = [replace(pruned[0], id=1000 + n, number=100 + n) for n in range(MOST_LINES + 5)]
    text = read(page_of(story.snapshot(story.with_trials(stage, [*stage.trials, *many])))).text
    assert "more: see all trials below" in text


@pytest.fixture
def plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written the same way whatever is in them."""
    monkeypatch.setattr("hpo_service.presentation.report.page.render", lambda *_: "<!DOCTYPE html>\n")


@pytest.mark.usefixtures("plain_page")
def test_an_earlier_report_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    snapshot = story.snapshot()
    evidence = gather_evidence(snapshot, story.scores)
    folder = tmp_path / "deep" / "quickstart"
    first = write_report(snapshot, evidence, folder)
    first.write_text("old")
    second = write_report(snapshot, evidence, folder)
    assert first == second == folder / "report.html"
    assert second.read_text() == "<!DOCTYPE html>\n"
    assert [path.name for path in folder.iterdir()] == ["report.html"]


@pytest.mark.usefixtures("plain_page")
def test_a_report_that_cannot_be_finished_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = story.snapshot()
    evidence = gather_evidence(snapshot, story.scores)
    path = write_report(snapshot, evidence, tmp_path)
    path.write_text("the earlier one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(snapshot, evidence, tmp_path)
    assert path.read_text() == "the earlier one"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_times_are_written_in_utc() -> None:
    assert moment(1_790_000_000.0) == "2026-09-21 14:13 UTC"


def test_versions_that_differ_between_workers_are_all_named() -> None:
    stage = story.search_stage()
    trials = [replace(t, facts=RunFacts.of({"torch": f"2.{n}"})) for n, t in enumerate(stage.trials)]
    named = versions(story.snapshot(story.with_trials(stage, trials)))
    assert named["torch"] == "2.0, 2.1, 2.2, ..."
    assert {"hpo-service", "optuna", "python"} <= set(named)
