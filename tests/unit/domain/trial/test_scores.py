"""Scores of rows, and of the first of them."""

from __future__ import annotations

from hpo_service.domain.trial.scores import Scores


def test_the_first_rows_are_those_that_all_trials_were_watched_on() -> None:
    scores = Scores(nll=[1.0, 2.0, 6.0], tokens=[1, 1, 2])
    assert scores.first(None) == scores
    assert scores.first(2) == Scores(nll=[1.0, 2.0], tokens=[1, 1])
    assert scores.first(2).mean == 1.5


def test_answers_weigh_alike() -> None:
    assert Scores.of_answers([1.0, 0.0]).tokens == [1, 1]
