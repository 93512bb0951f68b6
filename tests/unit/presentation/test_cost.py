"""What a study cost and what pruning saved."""

from __future__ import annotations

import pytest

from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.cost import study_cost
from hpo_service.service.studies.snapshot import TrialView
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


def prepared(seconds: float, setup: float, engine: float, ranks: int = 1, attempt: int = 1) -> TrialView:
    """A complete trial that its worker held for `seconds`, its engine for `engine`, `setup` of them to set up."""
    facts = RunFacts.of({"seconds_setup": setup, "device_seconds": engine, "ranks": ranks})
    parameters = {"learning_rate": 1e-4}
    return story.trial(
        1, 0, TrialState.COMPLETE, parameters, device_seconds=seconds, facts=facts, attempt=attempt, value=1.0
    )


@pytest.mark.parametrize(
    "trial, own, preparing",
    [
        (prepared(900.0, 800.0, 880.0), 80.0, 820.0),  # 20 s until the process had imported its libraries
        (prepared(40.0, 3.0, 40.0), 37.0, 3.0),
        (prepared(900.0, 100.0, 880.0, ranks=2), 680.0, 220.0),  # setup is wall time, the others are of both devices
        (prepared(900.0, 100.0, 500.0, attempt=2), 800.0, 100.0),  # of the first attempt nothing is known
        (prepared(5.0, 9.0, 5.0), 0.0, 5.0),
    ],
    ids=["first of a process", "loaded already", "two devices", "second attempt", "odd clock"],
)
def test_what_is_prepared_for_all_is_not_the_trials_own(trial: TrialView, own: float, preparing: float) -> None:
    assert (trial.own_seconds, trial.preparing_seconds) == (own, preparing)
    (stage,) = study_cost(story.snapshot(story.with_trials(story.search_stage(), [trial]))).stages
    assert (stage.own, stage.preparing, stage.seconds) == (own, preparing, trial.device_seconds)


def test_without_facts_all_time_is_the_trials_own() -> None:
    trial = story.trial(1, 0, TrialState.FAILED, {"learning_rate": 1e-4}, device_seconds=7.0)
    assert (trial.own_seconds, trial.preparing_seconds) == (7.0, 0.0)
