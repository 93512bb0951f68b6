"""What a study cost and what pruning saved."""

from __future__ import annotations

import pytest

from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.cost import study_cost
from tests.unit.presentation import story


def test_device_seconds_add_up_over_the_stages() -> None:
    snapshot = story.snapshot()
    spent = study_cost(snapshot)
    assert [stage.stage for stage in spent.stages] == ["search", "verify", "confirm"]
    assert spent.seconds == pytest.approx(sum(t.device_seconds for view in snapshot.stages for t in view.trials))
    assert spent.stages[2].seconds == pytest.approx(6 * 34.0)


def test_a_pruned_trial_saves_what_a_complete_one_would_have_taken_more() -> None:
    parameters = {"learning_rate": 1e-4}
    trials = [
        story.trial(1, 0, TrialState.COMPLETE, parameters, device_seconds=100.0),
        story.trial(2, 1, TrialState.COMPLETE, parameters, device_seconds=200.0),
        story.trial(3, 2, TrialState.PRUNED, parameters, device_seconds=30.0),
        story.trial(4, 3, TrialState.PRUNED, parameters, device_seconds=400.0),
        story.trial(5, 4, TrialState.FAILED, parameters, device_seconds=10.0),
    ]
    (stage,) = study_cost(story.snapshot(story.with_trials(story.search_stage(), trials))).stages
    assert (stage.pruned, stage.seconds) == (2, 740.0)
    assert stage.saved == 120.0, "a slow pruned trial saves nothing, and takes nothing back"


def test_a_first_trial_that_loaded_a_model_does_not_make_pruning_look_better() -> None:
    times = {TrialState.COMPLETE: (900.0, 10.0, 12.0), TrialState.PRUNED: (3.0,)}
    trials = [
        story.trial(number, number, state, {"learning_rate": 1e-4}, device_seconds=seconds)
        for number, (state, seconds) in enumerate((state, each) for state, many in times.items() for each in many)
    ]
    assert study_cost(story.snapshot(story.with_trials(story.search_stage(), trials))).saved == 9.0


def test_nothing_is_claimed_to_be_saved_before_a_trial_is_complete() -> None:
    trials = [story.trial(1, 0, TrialState.PRUNED, {"learning_rate": 1e-4})]
    assert study_cost(story.snapshot(story.with_trials(story.search_stage(), trials))).saved == 0.0
