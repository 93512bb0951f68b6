"""Each stage tells why it was opened and what became of its trials."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.stage_summary import counts, lr_factor, stage_summary
from tests.unit.presentation import story


def test_the_search_says_who_proposes_who_prunes_and_what_was_promoted() -> None:
    snapshot = story.snapshot()
    told = stage_summary(snapshot, snapshot.stages[0])
    assert told.opened.startswith("sampler gp proposes, pruner halving stops losers early")
    assert told.counts == "16 of 16 trials: 10 complete, 4 pruned, 1 infeasible, 1 failed"
    assert told.promoted == "#1 (3.0020), #5 (3.0058), #15 (3.0165) went on to verify"
    assert [line.trial for line in told.stopped] == ["#4", "#6", "#7", "#9", "#11", "#13"]
    assert told.stopped[0].text.startswith("pruned: validation loss")


def test_other_pruners_are_named_without_rungs() -> None:
    snapshot = story.snapshot(story.search_stage(), search={"pruner": "median"})
    assert stage_summary(snapshot, snapshot.stages[0]).opened == "sampler gp proposes, pruner median stops losers early"


def test_the_verify_stage_says_why_its_trials_were_chosen_even_after_it_was_closed() -> None:
    snapshot = story.snapshot()
    told = stage_summary(snapshot, snapshot.stages[1])
    assert told.opened.startswith("lowest validation value of 8 complete trials: #1")
    assert told.closed == "all 9 planned trials have ended"
    assert len(told.planned) == 9
    assert told.promoted == "#2 (2.6383) went on to confirm"
    assert told.model == "builtin:llama-small"


def test_the_confirm_stage_lists_the_seeds_of_each_configuration() -> None:
    snapshot = story.snapshot()
    told = stage_summary(snapshot, snapshot.stages[2])
    assert [(line.trial, line.text) for line in told.planned] == [
        ("winner 1", "in full with new seeds 1042, 1043, 1044"),
        ("default", "in full with new seeds 1042, 1043, 1044"),
    ]
    assert told.promoted == ""


def test_an_open_stage_is_still_open() -> None:
    snapshot = story.snapshot(story.search_stage(), story.verify_stage(2))
    assert stage_summary(snapshot, snapshot.stages[1]).closed == "still open"
    assert counts(story.with_trials(story.search_stage(0), [])) == "16 trials to come"


def test_promoted_trials_are_not_invented_where_the_plan_does_not_name_them() -> None:
    snapshot = story.snapshot(story.search_stage(), replace(story.verify_stage(), plan={}))
    assert stage_summary(snapshot, snapshot.stages[0]).promoted == ""
    assert stage_summary(snapshot, snapshot.stages[1]).opened == "all 9 planned trials have ended"


def test_reasons_of_many_complete_trials_are_told_once() -> None:
    stage = story.search_stage()
    trials = [story.trial(n, n, TrialState.COMPLETE, {"learning_rate": 1e-4}) for n in range(30)]
    snapshot = story.snapshot(story.with_trials(stage, trials))
    (ending,) = stage_summary(snapshot, snapshot.stages[0]).endings
    assert ending.trial.endswith("#19 and 10 more")


@pytest.mark.parametrize("rate, warned", [(5.1e-5, True), (1.5e-4, False), (4.9e-4, True)])
def test_a_best_trial_at_the_edge_of_a_logarithmic_range_is_warned_about(rate: float, warned: bool) -> None:
    stage = story.with_trials(
        story.search_stage(), [story.trial(1, 0, TrialState.COMPLETE, {"learning_rate": rate, "lora_dropout": 0.0})]
    )
    warnings = stage_summary(story.snapshot(stage), stage).warnings
    assert bool(warnings) == warned
    assert all("'s learning_rate lies at the edge" in warning for warning in warnings)


def test_a_range_of_one_value_has_no_edge() -> None:
    space = {"preset": "none", "parameters": {"learning_rate": {"low": 1e-4, "high": 1e-4, "log": True}}}
    stage = story.with_trials(story.search_stage(), [story.trial(1, 0, TrialState.COMPLETE, {"learning_rate": 1e-4})])
    assert stage_summary(story.snapshot(stage, space=space), stage).warnings == []


def test_a_best_trial_inside_the_bracket_needs_no_warning() -> None:
    stage = story.verify_stage()
    inner = [t for t in stage.trials if lr_factor(t) == 1.0]
    snapshot = story.snapshot(story.search_stage(), story.with_trials(stage, inner))
    assert stage_summary(snapshot, snapshot.stages[1]).warnings == []


def test_a_label_without_a_factor_has_none() -> None:
    assert lr_factor(story.trial(1, 0, TrialState.COMPLETE, {}, label="winner 1")) is None
