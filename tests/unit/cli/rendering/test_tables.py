"""Results and studies as tables."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace

import pytest
from rich.console import Console, Group, RenderableType

from hpo_service.cli.rendering.tables import (
    has_verdict,
    opening_line,
    studies_table,
    study_tables,
    verdict_table,
    worker_table,
)
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.presentation.report.page import render
from hpo_service.service.studies.overview import StudyLines
from hpo_service.service.studies.snapshot import Rest, tally_of
from hpo_service.service.workers import WorkerList
from hpo_service.storage.workers import WorkerRow, WorkerState
from tests.unit.presentation import story

STUDIES = [
    replace(story.snapshot(story.search_stage(11, 2)), reason="all [bold]is[/bold] well"),
    replace(
        story.snapshot(),
        name="own",
        spec=StudySpec.model_validate({"name": "own", "objective": {"python": "a:b"}, "space": {"preset": "minimal"}}),
    ),
    story.snapshot(story.search_stage(), model={"base": "one"}),
]
LINES = [story.line(snapshot) for snapshot in STUDIES]

UNREADABLE = {"theirs": "study theirs was made by another version: use that version"}


def text(renderable: RenderableType, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, soft_wrap=True, highlight=False)
    console.print(renderable)
    return console.export_text()


def rows(table: str) -> dict[str, list[str]]:
    """Cells by the first one of their row."""
    cells = [[cell.strip() for cell in line.strip("│╭╰├").split("│")] for line in table.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in cells}


def test_the_verdict_stands_above_default_and_winner_side_by_side() -> None:
    shown = text(verdict_table(story.found(story.snapshot())))
    assert shown.startswith("The winner is better than the default by 3.")
    cells = rows(shown)
    assert cells["mean NLL per token, lower is better"][:2] == ["default", "winner 1"]
    assert cells["test, mean of seeds"][:2] == ["2.8412", "2.7489"]
    assert cells["seeds"][:2] == ["3", "3"]
    assert cells["95% interval"][1].startswith("+2.")
    assert cells["learning_rate"][:2] == ["2e-4", "5.3e-4"]


def test_what_weakens_the_verdict_is_noted_below() -> None:
    partial = story.snapshot(story.search_stage(), story.verify_stage(), story.confirm_stage(3))
    shown = text(verdict_table(story.found(partial)))
    assert rows(shown)["95% interval"][1] == "none"
    assert rows(shown)["seeds"][:2] == ["1 of 3", "2 of 3"]
    assert shown.rstrip().endswith("Note: preliminary: 3 of 6 confirm runs have not ended")


def test_an_unconfirmed_winner_stands_alone() -> None:
    shown = text(verdict_table(story.found(story.snapshot(story.search_stage()))))
    assert shown.startswith("Not confirmed: search #1")
    assert "default" not in shown.splitlines()[3]
    assert "improvement" not in shown


def test_nothing_measured_needs_no_table() -> None:
    shown = text(verdict_table(story.found(story.snapshot(story.search_stage(0)))))
    assert shown.startswith("Nothing was measured yet.")
    assert "│" not in shown


def test_studies_are_listed_with_where_they_stand_their_models_and_reasons() -> None:
    shown = text(studies_table(StudyLines(LINES, UNREADABLE)), width=120)
    first, second, third = (line for line in shown.splitlines() if "/" in line)
    assert first.split()[:4] == ["quickstart", "active", "search", "11/16"]
    assert "builtin:llama-tiny" in first
    assert "all [bold]is[/bold] well" in first, "reasons are not markup"
    assert "→ builtin:llama-small" in shown
    assert "own objective" in second
    assert " one " in third
    assert re.search(r"theirs +unreadable +study theirs was made by another version", shown)


def test_a_study_is_shown_with_every_trial_and_every_reason() -> None:
    shown = text(Group(*study_tables(story.snapshot())), width=200)
    assert "search  16 of 16 trials: 10 complete, 4 pruned, 1 infeasible, 1 failed" in shown
    assert "· #4: pruned: validation loss" in shown
    assert "#1 (3.0020), #5 (3.0058), #15 (3.0165) went on to verify" in shown
    assert "opened: lowest validation value of 8 complete trials" in shown
    assert "search #1, lr x 0.5: rank 32 x 2, at most 64, = 64" in shown
    assert "device time 10 min 04 s, about 48 s saved by pruning" in shown
    assert sum(line.split()[1:2] == ["complete"] for line in shown.splitlines()) == 10 + 8 + 6


def test_a_confirmed_study_opens_with_its_verdict_and_any_other_with_where_it_stands() -> None:
    done = story.snapshot()
    assert has_verdict(done, story.found(done))
    assert text(opening_line(done, story.found(done))).startswith("The winner is better than the default by 3.")
    for partial in (
        story.snapshot(story.search_stage(11)),
        story.snapshot(story.search_stage(), story.verify_stage(), story.confirm_stage(3)),
    ):
        assert not has_verdict(partial, story.found(partial)), "what confirm says before its end is preliminary"
        opening = text(opening_line(partial, story.found(partial)))
        stage = partial.current
        assert opening.startswith(f"{stage.ended} of {stage.budget} trials of {stage.stage} have ended; ")


def test_an_open_stage_is_shown_as_such_with_trials_that_have_no_number_yet() -> None:
    shown = text(Group(*study_tables(story.snapshot(story.search_stage(), story.verify_stage(2)))))
    assert "still open" in shown
    assert sum(line.split()[:1] == ["waiting"] for line in shown.splitlines()) == 7


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_table_is_wider_than_the_terminal(width: int) -> None:
    for table in (
        *study_tables(story.snapshot()),
        verdict_table(story.found(story.snapshot())),
        studies_table(StudyLines(LINES, UNREADABLE)),
    ):
        assert max(map(len, text(table, width).splitlines())) <= width


def test_workers_are_listed_with_the_time_of_their_last_sign_of_life_the_latest_first() -> None:
    workers = [
        WorkerRow(
            "a-1-ff", "a", 1, "0.1.0", "cpu", WorkerState.LOST, "silent [for] 60 s", story.START, story.START + 10
        ),
        WorkerRow("b-2-ee", "b", 2, "0.1.0", "0,1", WorkerState.ACTIVE, "", story.START, story.START + 95),
    ]
    lines = text(worker_table(WorkerList(workers, story.START + 100))).splitlines()
    assert lines[2].split()[:6] == ["b-2-ee", "active", "5", "s", "ago", "0,1"]
    assert "1 min 30 s ago" in lines[3]
    assert "silent [for] 60 s" in lines[3]


def test_losses_are_shown_with_their_perplexity_and_task_metrics_with_their_means() -> None:
    view = story.confirm_stage()
    scored = [replace(t, facts=RunFacts.of({"metric:rouge_l": 0.5 + 0.1 * (t.role == "winner")})) for t in view.trials]
    snapshot = story.snapshot(story.search_stage(), story.verify_stage(), story.with_trials(view, scored))
    evidence = story.found(snapshot)
    assert evidence.default is not None
    assert evidence.winner is not None
    shown = rows(text(verdict_table(evidence)))
    assert shown["rouge_l, test"] == ["0.5", "0.6"]
    means = [side.test for side in (evidence.default, evidence.winner)]
    assert shown["perplexity, test"] == [f"{math.exp(mean or 0.0):.4g}" for mean in means]
    told = text(Group(*study_tables(snapshot)), width=120)
    assert re.search(r"# +state +value +ppl +device s", told)
    assert "· #0: rouge_l 0.6" in told
    assert "rouge_l, test" in render(snapshot, evidence)


def test_an_own_objective_has_no_perplexity() -> None:
    own = STUDIES[1]
    assert "ppl" not in text(Group(*study_tables(own)))
    assert "perplexity" not in text(verdict_table(story.found(own)))
    assert "perplexity" not in render(own, story.found(own))


def test_trials_that_are_counted_and_not_listed_are_told_of() -> None:
    snapshot = story.snapshot()
    view = snapshot.stages[0]
    few = replace(view, trials=view.trials[-2:], rest=Rest(tally_of(view.trials[:-2])))
    shown = text(Group(*study_tables(replace(snapshot, stages=[few]))), width=200)
    assert "2 of 16 trials are listed" in shown
    assert "--trials 16 lists all" in shown
    assert "search  16 of 16 trials" in shown


def test_a_study_that_selects_on_a_metric_shows_it_beside_the_loss_that_pruning_looks_at() -> None:
    snapshot = story.snapshot(evaluation={"select": "exact_match"})
    shown = text(Group(*study_tables(snapshot)), width=200)
    assert "ppl" not in shown
    heads = next(line.split() for line in shown.splitlines() if "exact match" in line)
    assert heads[:6] == ["#", "state", "exact", "match", "loss", "device"]
