"""Losses are compared only where the rows were the same."""

from dataclasses import replace

from hpo_service.domain.trial.facts import RunFacts
from hpo_service.presentation.stage_summary import stage_summary
from hpo_service.service.studies.findings.data_consistency import mixed_rows
from hpo_service.service.studies.findings.evidence import Verdict, gather_evidence
from tests.unit.presentation import story


def with_fingerprints(view, *fingerprints):
    trials = [
        replace(trial, facts=RunFacts.of({**trial.facts.flat(), "data_fingerprint": mark} if mark else {}))
        for trial, mark in zip(view.trials, fingerprints, strict=True)
    ]
    return story.with_trials(view, trials)


def test_the_few_that_saw_other_rows_are_named():
    view = with_fingerprints(story.confirm_stage(), "a", "b", "a", "a", "c", "")
    assert mixed_rows(view.trials) == (
        "#1, #4 saw other rows than the rest: the data or its preparation changed during the study, "
        "so their losses cannot be compared"
    )


def test_trials_that_saw_the_same_rows_or_tell_nothing_of_them_are_alike():
    assert mixed_rows(with_fingerprints(story.confirm_stage(), *["a"] * 5, "").trials) == ""
    assert mixed_rows([]) == ""


def test_a_long_list_of_names_is_cut():
    view = story.search_stage()
    marks = ["a"] * 4 + [f"b{i}" for i in range(12)]
    assert mixed_rows(with_fingerprints(view, *marks).trials).startswith(
        "#4, #5, #6, #7, #8, #9, #10, #11, #12, #13 and 2"
    )


def test_a_winner_and_a_default_that_saw_other_rows_are_not_compared():
    mixed = with_fingerprints(story.confirm_stage(), *["a", "b"] * 3)
    snapshot = story.snapshot(story.search_stage(), story.verify_stage(), mixed)
    evidence = gather_evidence(snapshot, lambda trial_id, split: story.scores(trial_id, split))
    assert evidence.verdict is Verdict.UNTESTED
    assert evidence.comparison is None
    assert evidence.sentence.startswith("not compared: #1, #3, #5 saw other rows")
    assert stage_summary(snapshot, snapshot.stage("confirm")).warnings == [
        evidence.sentence.removeprefix("not compared: ")
    ]
