"""The report as Markdown."""

from __future__ import annotations

from dataclasses import replace

from hpo_service.presentation.report.markdown import plain, render_markdown
from tests.unit.presentation import story


def test_it_begins_with_the_verdict_and_has_every_stage_the_cost_and_the_study_file() -> None:
    snapshot = story.snapshot()
    text = render_markdown(snapshot, story.found(snapshot))
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    assert lines[2].startswith("**The winner is")
    assert all(f"## {name}" in lines for name in ("Search", "Verify", "Confirm", "Cost", "Study file"))
    assert any(line.startswith("| learning\\_rate | ") for line in lines)
    assert any(line.startswith("| search | 16 | ") for line in lines)
    assert text.count("```") == 2


def test_a_study_that_has_measured_nothing_has_no_table_of_a_winner() -> None:
    snapshot = story.snapshot(story.search_stage(0))
    text = render_markdown(snapshot, story.found(snapshot))
    assert "learning\\_rate |" not in text
    assert "## Search" in text


def test_what_people_wrote_is_shown_and_never_a_mark() -> None:
    assert plain("a|b\n# <c> *d* `e` [f](g)_h_") == "a\\|b \\# \\<c\\> \\*d\\* \\`e\\` \\[f\\](g)\\_h\\_"
    snapshot = story.snapshot()
    found = replace(story.found(snapshot), remarks=["<script>|`x`"])
    assert "* \\<script\\>\\|\\`x\\`" in render_markdown(snapshot, found)
