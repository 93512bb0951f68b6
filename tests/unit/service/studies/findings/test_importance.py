"""Whether a study has enough to say what mattered."""

from __future__ import annotations

from dataclasses import replace

from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.findings.importance import FEWEST, importance_of
from tests.unit.presentation import story


def test_what_mattered_is_told_by_complete_trials_alone_and_only_by_enough_of_them() -> None:
    assert importance_of(story.snapshot()) == {}, "ten complete trials are too few"
    stage = story.search_stage()
    complete = [t for t in stage.trials if t.state is TrialState.COMPLETE]
    more = [
        replace(t, id=100 + 20 * again + place, number=100 + 20 * again + place)
        for again in range(-(-FEWEST // len(complete)))
        for place, t in enumerate(complete)
    ]
    shares = importance_of(story.snapshot(story.with_trials(stage, more)))
    assert shares
    assert set(shares) <= set(complete[0].parameters)


def test_nothing_is_told_before_a_search() -> None:
    assert importance_of(story.snapshot(story.search_stage(0))) == {}
