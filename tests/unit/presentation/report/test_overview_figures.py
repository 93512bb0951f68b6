"""Figures of the search as a whole, and when there is too little for one."""

from __future__ import annotations

from dataclasses import replace

from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.report import overview_figures
from tests.unit.presentation import story


def one_trial() -> list:
    return [story.trial(1, 0, TrialState.COMPLETE, {"learning_rate": 1e-4, "lora_rank": 8}, final=2.0)]


def test_the_history_shows_trials_and_the_best_so_far() -> None:
    svg = overview_figures.history(story.snapshot(), "NLL")
    assert svg is not None
    assert "the best so far" in svg
    assert overview_figures.history(story.snapshot(story.with_trials(story.search_stage(), one_trial())), "NLL") is None


def test_each_parameter_has_a_bar_with_its_name() -> None:
    svg = overview_figures.importance({"learning_rate": 0.8, "lora_rank": 0.2})
    assert svg is not None
    assert "learning_rate" in svg
    assert svg.index("learning_rate") < svg.index("lora_rank")
    assert overview_figures.importance({}) is None


def test_lines_run_through_all_parameters_and_below_those_that_a_configuration_lacks() -> None:
    stage = story.search_stage()
    svg = overview_figures.parallel(story.snapshot(), "NLL")
    assert svg is not None
    assert "best quarter" in svg
    assert "5e-5" in svg, "the ends of a range are written at its axis"
    lacking = [replace(t, parameters={k: v for k, v in t.parameters.items() if k != "lora_rank"}) for t in stage.trials]
    half = [*stage.trials[:6], *lacking[6:]]
    assert overview_figures.parallel(story.snapshot(story.with_trials(stage, half)), "NLL") is not None
    assert overview_figures.parallel(story.snapshot(story.with_trials(stage, one_trial())), "NLL") is None


def test_a_trial_that_broke_a_limit_is_in_none_of_them() -> None:
    stage = story.search_stage()
    broken = [replace(t, facts=t.facts.of({**t.facts.flat(), "constraint_violated": "too slow"})) for t in stage.trials]
    snapshot = story.snapshot(story.with_trials(stage, broken))
    assert overview_figures.history(snapshot, "NLL") is None
    assert overview_figures.parallel(snapshot, "NLL") is None


def test_configurations_stand_by_both_models_where_two_were_carried_over() -> None:
    svg = overview_figures.carried(story.snapshot(), "NLL")
    assert svg is not None
    assert all(f" #{number}<" in svg for number in (1, 5, 15))
    assert overview_figures.carried(story.snapshot(story.search_stage()), "NLL") is None
