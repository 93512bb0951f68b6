"""What happened between two looks at a study is told once, with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.presentation.events import Event, events, trial_name
from hpo_service.service.studies.snapshot import StudySnapshot
from tests.unit.presentation import story


def one_trial(**changes: Any) -> StudySnapshot:
    """A study with a single search trial in some state."""
    trial = replace(story.search_trials(0, 1)[0], **changes)
    return story.snapshot(story.with_trials(story.search_stage(0, 1), [trial]))


def texts(before: StudySnapshot | None, now: StudySnapshot) -> list[str]:
    return [event.text for event in events(before, now)]


def test_a_first_look_at_a_new_study_says_that_it_begins() -> None:
    assert texts(None, story.snapshot(story.search_stage(0))) == ["search begins with 16 trials"]


def test_a_first_look_at_a_continued_study_says_where_it_stands_and_not_what_was_before() -> None:
    now = story.snapshot(story.search_stage(11, 2))
    assert texts(None, now) == ["going on in search: 11 of 16 trials have ended"]


def test_nothing_new_is_nothing_told() -> None:
    now = story.snapshot(story.search_stage(5, 2))
    assert events(now, now) == []


def test_a_trial_that_starts_is_a_minor_event_with_its_configuration() -> None:
    (event,) = events(story.snapshot(story.search_stage(0)), story.snapshot(story.search_stage(0, 1)))
    assert event == Event(
        "search #0 started (lr 2.1e-4, r 16, alpha/r 2, dropout 0.116, warmup 0.0303, decay 0.03)", minor=True
    )


def test_a_planned_trial_that_starts_is_told_too() -> None:
    waiting = one_trial(state=TrialState.WAITING, attempt=0)
    assert texts(waiting, one_trial(attempt=1))[0].startswith("search #0 started (")


def test_a_second_attempt_is_named() -> None:
    assert "started, attempt 2 (" in texts(one_trial(attempt=1), one_trial(attempt=2))[0]


def test_a_trial_that_goes_back_to_the_queue_says_why() -> None:
    lost = one_trial(state=TrialState.WAITING, reason="its worker was silent for 60 s")
    assert texts(one_trial(), lost) == ["search #0 went back to the queue: its worker was silent for 60 s"]


def test_the_best_complete_trial_is_pointed_out() -> None:
    before, now = story.snapshot(story.search_stage(0, 2)), story.snapshot(story.search_stage(2))
    assert texts(before, now) == ["search #0 complete: 3.0388", "search #1 complete: 3.0020, the best so far"]


def test_a_pruned_trial_says_why() -> None:
    before, now = story.snapshot(story.search_stage(4, 1)), story.snapshot(story.search_stage(5))
    (text,) = texts(before, now)
    assert text.startswith("search #4 pruned: validation loss")
    assert text.endswith("only the better half (up to 3.211) goes on")


def test_a_stage_that_ends_and_the_next_one_that_begins_say_why() -> None:
    before = story.snapshot(story.search_stage(15, 1))
    told = texts(before, story.snapshot(story.search_stage(), story.verify_stage(0)))
    assert told[1] == "search has ended: all 16 trials of the budget have been admitted, and all have ended"
    assert told[2].startswith("verify begins with 9 trials: lowest validation value of 8 complete trials")


def test_a_stage_that_began_and_ended_between_two_looks_is_told_whole() -> None:
    before = story.snapshot(story.search_stage())
    told = texts(before, story.snapshot(story.search_stage(), story.verify_stage()))
    assert told[0].startswith("verify begins")
    assert told[-1] == "verify has ended: all 9 planned trials have ended"
    assert sum("complete" in text and text.startswith("verify #") for text in told) == 8


def test_a_change_of_the_study_itself_is_told() -> None:
    before = story.snapshot(story.search_stage(3))
    paused = replace(before, state=StudyState.PAUSED, reason="asked by ana")
    assert texts(before, paused) == ["the study is paused: asked by ana"]


def test_trials_are_named_by_stage_number_and_label() -> None:
    stage = story.confirm_stage(1)
    assert trial_name(stage, stage.trials[0]) == "confirm #0 (winner 1)"
    assert trial_name(stage, stage.trials[1]) == "confirm planned (default)"
