"""The live view fits the terminal, degrades to lines, and is silent where asked."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from hpo_service.cli.rendering.console import console
from hpo_service.cli.rendering.live import LiveView, draw
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.studies.snapshot import StudySnapshot
from hpo_service.service.workers import Activity
from tests.unit.presentation import story

LONG = "search #4 pruned: validation loss 3.298 at 25% of the epoch is 5th of 7; only the better half goes on"
MOMENTS = {
    "empty": story.snapshot(story.search_stage(0)),
    "search": story.snapshot(story.search_stage(11, 3)),
    "crowd": story.snapshot(story.search_stage(2, 13)),
    "verify": story.snapshot(story.search_stage(), story.verify_stage(4)),
    "confirm": story.snapshot(story.search_stage(), story.verify_stage(), story.confirm_stage(3)),
    "finished": story.snapshot(),
}


def picture(
    snapshot: StudySnapshot,
    lines: list[str],
    activities: dict[str, Activity] | None = None,
    *,
    width: int = 80,
    rows: int = 8,
) -> str:
    # wraps nothing by itself, as the console of the commands does
    console = Console(width=width, file=io.StringIO(), record=True, soft_wrap=True, highlight=False)
    console.print(draw(snapshot, lines, activities, elapsed="42 s", width=width, rows=rows))
    return console.export_text()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("moment", MOMENTS)
def test_no_line_is_wider_than_the_terminal(moment: str, width: int) -> None:
    assert max(map(len, picture(MOMENTS[moment], [LONG], width=width).splitlines())) <= width


def test_the_current_stage_its_counts_and_the_best_are_shown() -> None:
    text = picture(MOMENTS["search"], [])
    assert "search  ▸ verify ▸ confirm" in text
    assert "done running pruned infeasible failed waiting" in text
    search = next(line for line in text.splitlines() if "11/16" in line)
    assert search.split()[-6:] == ["7", "3", "2", "1", "1", "2"]
    assert "best so far 3.0020  search #1  lr 3.7e-4, r 32" in text
    assert "left in search, then verify and confirm  (42 s so far)" in text


def test_running_trials_show_progress_last_value_and_configuration() -> None:
    running = next(line for line in picture(MOMENTS["search"], [], width=120).splitlines() if "#11" in line)
    assert "38%" in running
    assert "lr 8.7e-5, r 8" in running


def test_what_a_worker_does_before_it_trains_is_shown_with_its_trial() -> None:
    stage = story.search_stage(2, 1)
    doing = {"w": Activity("loading base (40%)", story.START + 5), "other": Activity("measuring", story.START + 5)}

    [running] = [trial for trial in stage.trials if trial.state is TrialState.RUNNING]

    def shown(progress: float, started: float = 0.0) -> str:
        begun = replace(running, progress=progress, worker="w", started_at=story.START + started)
        return picture(story.snapshot(story.with_trials(stage, [begun])), [], doing)

    assert "loading base (40%)  lr" in shown(0.0)
    assert "measuring" not in shown(0.0)
    assert "loading" not in shown(0.1)
    assert "loading" not in shown(0.0, started=6.0), "said before the trial began"


def test_a_later_attempt_is_shown() -> None:
    stage = story.search_stage(2, 1)
    again = [replace(t, attempt=2) if t.state is TrialState.RUNNING else t for t in stage.trials]
    assert "attempt 2" in picture(story.snapshot(story.with_trials(stage, again)), [])


def test_more_running_trials_than_there_is_room_for_are_counted() -> None:
    text = picture(MOMENTS["crowd"], [], rows=3)
    assert "and 10 more" in text
    assert "38%" in text


def test_before_anything_ended_the_best_is_not_known_yet() -> None:
    text = picture(MOMENTS["empty"], [])
    assert "nothing has run to the end yet" in text
    assert "waiting for a worker" in text


def test_long_events_are_wrapped_under_their_mark_and_brackets_are_not_markup() -> None:
    text = picture(MOMENTS["search"], [LONG, "worker 2 ended [red]9[/red]"])
    lines = text.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("· search #4 pruned"))
    assert lines[first + 1].startswith("  ")
    assert lines[first + 1].rstrip().endswith("goes on")
    assert "· worker 2 ended [red]9[/red]" in text


def test_the_end_is_said_with_its_reason() -> None:
    failed = replace(MOMENTS["search"], state=StudyState.FAILED, reason="3 trials failed and none succeeded")
    text = picture(failed, [])
    assert "failed" in text.splitlines()[0]
    assert "3 trials failed and none succeeded" in text
    assert "so far)" not in text
    assert "#11" not in text, "nothing runs any more"


def plain(*, quiet: bool = False) -> tuple[LiveView, io.StringIO]:
    out = io.StringIO()
    return LiveView(Console(file=out, width=80, soft_wrap=True, highlight=False), quiet=quiet), out


def test_where_there_is_no_terminal_each_event_is_one_line_with_the_time_it_came() -> None:
    view, out = plain()
    with view:
        view.update(MOMENTS["empty"])
        view.update(story.snapshot(story.search_stage(5, 1)))
        view.note("worker 1 was started again [exit 9]")
    lines = out.getvalue().splitlines()
    assert lines[0] == "      0 s  search begins with 16 trials"
    assert lines[5].startswith("     34 s  search #4 pruned: validation loss")
    assert lines[5].endswith("goes on"), "one event, one line, however long"
    assert lines[6].startswith("     34 s  search #5 started (")
    assert lines[7] == "     34 s  worker 1 was started again [exit 9]"
    assert len(lines) == 8
    assert "\x1b" not in out.getvalue()


def test_a_note_may_come_with_an_update_and_before_any() -> None:
    view, out = plain()
    with view:
        view.note("building the models")
        view.update(MOMENTS["empty"], "two workers started")
    assert [line.split("  ")[-1] for line in out.getvalue().splitlines()] == [
        "building the models",
        "two workers started",
        "search begins with 16 trials",
    ]


def test_a_quiet_view_writes_nothing() -> None:
    view, out = plain(quiet=True)
    with view:
        view.update(MOMENTS["search"], "a note")
        view.note("another")
    assert out.getvalue() == ""


def test_a_quiet_view_writes_nothing_to_a_terminal_either() -> None:
    out = io.StringIO()
    with LiveView(Console(file=out, force_terminal=True), quiet=True) as view:
        view.update(MOMENTS["search"])
    assert out.getvalue() == ""


def test_on_a_terminal_the_picture_is_redrawn_and_the_last_one_stays() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=30, soft_wrap=True)
    with LiveView(console) as view:
        view.note("before the first look")
        for moment in MOMENTS.values():
            view.update(moment)
    written = out.getvalue()
    assert "\x1b[1A" in written, "the cursor went up to draw over the older picture"
    assert "finished after" in written
    assert " started (" not in written, "bars show what runs"
    assert written.rstrip().endswith("\x1b[?25h"), "the cursor is given back"


def test_the_terminal_is_given_back_when_something_breaks() -> None:
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=80, height=30))

    def break_down() -> None:
        with view:
            view.update(MOMENTS["search"])
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        break_down()
    assert out.getvalue().rstrip().endswith("\x1b[?25h")


def test_a_terminal_without_unicode_shows_question_marks_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, encoding="latin-1"))
    shown = console()
    shown.print(draw(MOMENTS["search"], ["a → b"]))
    shown.file.flush()
    assert b"a ? b" in out.getvalue()
    assert b"11/16" in out.getvalue()


def test_lines_of_a_log_are_printed_as_they_are() -> None:
    out = io.StringIO()
    LiveView(Console(file=out, width=80)).log("cpu0: INFO [trial] 1 claimed")
    assert out.getvalue() == "cpu0: INFO [trial] 1 claimed\n"


def test_where_a_metric_is_selected_on_the_best_and_what_runs_are_told_apart() -> None:
    drawn = picture(story.snapshot(story.search_stage(11, 2), evaluation={"select": "exact_match"}), [], width=120)
    assert "best so far exact match 3.0020" not in drawn, "more is better"
    assert "best so far exact match " in drawn
    assert "loss 3." in next(line for line in drawn.splitlines() if "#11" in line)
