"""Multiples of a learning rate that was carried over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.decide.planning.bracket import (
    DARING_RATE,
    GUARD,
    LARGE_WIDTH,
    beyond,
    factor_of,
    factors,
    label_of,
)


@given(st.floats(1e-3, 1e3))
def test_a_label_tells_its_factor(factor: float) -> None:
    assert factor_of(label_of("search", 3, factor)) == pytest.approx(factor, rel=0.01)


@pytest.mark.parametrize("label", ["default", "winner 1", "", "lr x"])
def test_other_labels_tell_none(label: str) -> None:
    assert factor_of(label) is None


def test_a_daring_rate_on_a_large_target_is_tried_at_a_third_too() -> None:
    assert factors([2, 0.5, 1], DARING_RATE, LARGE_WIDTH) == [GUARD, 0.5, 1, 2]
    assert factors([2, 0.5, 1], DARING_RATE, LARGE_WIDTH - 1) == [0.5, 1, 2]
    assert factors([2, 0.5, 1], DARING_RATE / 2, LARGE_WIDTH) == [0.5, 1, 2]
    assert factors([0.25, 1], DARING_RATE, LARGE_WIDTH) == [0.25, 1], "it goes lower already"


def test_the_best_at_an_edge_asks_for_one_further_in_the_same_ratio() -> None:
    up, down = beyond([0.5, 1, 2], 2), beyond([0.5, 1, 2], 0.5)
    assert up is not None
    assert down is not None
    assert up.factor == pytest.approx(4)
    assert up.reason == "x 2 is the best and the highest of the bracket, so x 4 is tried too"
    assert down.factor == pytest.approx(0.25)
    assert "the lowest of the bracket" in down.reason


def test_nothing_lies_beyond_a_best_between_others_or_a_single_one() -> None:
    assert beyond([0.5, 1, 2], 1) is None
    assert beyond([1], 1) is None
    assert beyond([1, 1], 1) is None
