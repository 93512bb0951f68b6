"""Better is defined once, for values of which less is better and for values of which more is."""

from __future__ import annotations

import math

import pytest

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.sections.search import SearchSpec

LOSS, SCORE = Direction.MINIMIZE, Direction.MAXIMIZE


def test_the_lower_loss_and_the_higher_score_are_better():
    assert LOSS.badness(1.0) < LOSS.badness(2.0)
    assert SCORE.badness(2.0) < SCORE.badness(1.0)


@pytest.mark.parametrize("direction", Direction)
def test_what_is_no_number_is_the_worst_there_is(direction):
    assert direction.badness(math.nan) == math.inf


@pytest.mark.parametrize("direction", Direction)
def test_sorting_by_badness_puts_the_best_first(direction):
    ranked = sorted([2.0, 1.0, 3.0], key=direction.badness)
    assert [direction.signed(direction.badness(value)) for value in ranked] == ranked
    assert ranked == ([3.0, 2.0, 1.0] if direction.maximize else [1.0, 2.0, 3.0])


@pytest.mark.parametrize("direction", Direction)
def test_an_improvement_is_positive_where_the_second_value_is_better(direction):
    worse, better = (1.0, 3.0) if direction.maximize else (3.0, 1.0)
    assert direction.improvement(worse, better) == 2.0
    assert direction.improvement(better, worse) == -2.0
    assert math.copysign(1.0, direction.improvement(1.0, 1.0)) == 1.0, "no improvement is no negative zero"


def test_each_has_its_words():
    assert (LOSS.superlative, LOSS.comparative) == ("lowest", "lower")
    assert (SCORE.superlative, SCORE.comparative) == ("highest", "higher")


def test_a_study_file_names_it_and_is_written_as_it_was_read():
    search = SearchSpec.model_validate({"direction": "maximize"}, strict=True)
    assert search.direction is Direction.MAXIMIZE
    assert SearchSpec().direction is Direction.MINIMIZE
    assert type(search.model_dump(mode="json")["direction"]) is str
    assert SearchSpec.model_validate(search.model_dump()) == search
