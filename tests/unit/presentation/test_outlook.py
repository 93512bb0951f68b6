"""How long it still takes, as far as that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.presentation.outlook import outlook, planned_stages, seconds_left, standing
from hpo_service.service.studies.snapshot import StudySnapshot, TrialView
from tests.unit.presentation import story

PARAMETERS = {"learning_rate": 1e-4}


def ended(number: int, seconds: float, state: TrialState = TrialState.COMPLETE) -> TrialView:
    return story.trial(number, number, state, dict(PARAMETERS), device_seconds=seconds)


def running(number: int, progress: float) -> TrialView:
    return story.trial(number, number, TrialState.RUNNING, dict(PARAMETERS), progress=progress)


def study(*trials: TrialView, **spec: object) -> StudySnapshot:
    return story.snapshot(story.with_trials(story.search_stage(0), list(trials)), **spec)


def test_a_study_has_the_stages_its_file_asks_for() -> None:
    assert planned_stages(story.snapshot().spec) == {"search": 16, "verify": 9 + 1 + 3, "confirm": 6}
    alone = story.snapshot(model={"base": "one"}, confirm={"enabled": False}).spec
    assert planned_stages(alone) == {"search": 16}
    own = StudySpec.model_validate(
        {"name": "own", "objective": {"python": "a:b"}, "space": {"preset": "minimal"}, "confirm": {"seeds": 4}}
    )
    assert planned_stages(own) == {"search": 20, "confirm": 4}, "there is no default to run beside it"


def test_trials_to_come_take_the_mean_and_running_ones_the_rest_of_a_complete_one() -> None:
    snapshot = study(ended(1, 30.0), ended(2, 10.0, TrialState.PRUNED), running(3, 0.5), running(4, 0.0))
    # 12 to come at 20 s, half and a whole run at 30 s, on two workers
    assert seconds_left(snapshot) == pytest.approx((12 * 20 + 0.5 * 30 + 30) / 2)
    assert outlook(snapshot) == "about 2 min 22 s left in search, then verify and confirm"


def test_before_a_trial_has_ended_the_time_is_being_estimated() -> None:
    snapshot = study(running(1, 0.9))
    assert seconds_left(snapshot) is None
    assert outlook(snapshot) == "estimating the time left in search, then verify and confirm"


def test_without_a_busy_worker_nothing_is_promised() -> None:
    snapshot = study(ended(1, 30.0))
    assert seconds_left(snapshot) is None
    assert outlook(snapshot) == "waiting for a worker"


def test_only_pruned_trials_give_an_estimate_too() -> None:
    assert seconds_left(study(ended(1, 10.0, TrialState.PRUNED), running(2, 0.0))) == pytest.approx(15 * 10)


def test_a_budget_of_device_hours_ends_the_search_sooner() -> None:
    snapshot = study(ended(1, 30.0), running(2, 0.0), search={"budget": {"trials": 1000, "gpu_hours": 0.025}})
    assert seconds_left(snapshot) == pytest.approx(60.0)


def test_planned_trials_that_wait_count_as_trials_to_come() -> None:
    stage = story.verify_stage(3)
    busy = [replace(t, state=TrialState.RUNNING, progress=0.0) if t.id == 103 else t for t in stage.trials]
    snapshot = story.snapshot(story.search_stage(), story.with_trials(stage, busy))
    assert seconds_left(snapshot) == pytest.approx(6 * 31.0)
    assert outlook(snapshot).endswith("left in verify, then confirm")


def test_the_last_stage_names_no_other() -> None:
    stage = story.confirm_stage(3)
    busy = [replace(t, state=TrialState.RUNNING, progress=0.5) if t.id == 203 else t for t in stage.trials]
    snapshot = story.snapshot(story.search_stage(), story.verify_stage(), story.with_trials(stage, busy))
    assert outlook(snapshot) == "about 1 min 25 s left"


def test_a_study_that_has_ended_says_after_how_long() -> None:
    assert outlook(story.snapshot()).startswith("finished after 7 min ")
    failed = replace(story.snapshot(story.search_stage(3)), state=StudyState.FAILED, reason="three trials failed")
    assert outlook(failed).endswith(": three trials failed")


def test_where_a_study_stands_is_its_stage_and_what_is_left_of_it() -> None:
    snapshot = study(ended(1, 30.0), running(2, 0.5))
    assert standing(snapshot).startswith("1 of 16 trials of search have ended; about ")
    held = replace(snapshot, state=StudyState.PAUSED)
    assert standing(held) == "paused; 1 of 16 trials of search have ended"
    assert standing(story.snapshot()) == outlook(story.snapshot())


def test_loading_and_pre_training_do_not_stretch_the_time_left() -> None:
    facts = RunFacts.of({"seconds_setup": 600.0, "device_seconds": 610.0})
    first = story.trial(1, 0, TrialState.COMPLETE, dict(PARAMETERS), device_seconds=620.0, facts=facts)
    assert seconds_left(study(first, running(2, 0.0))) == pytest.approx(15 * 10)
