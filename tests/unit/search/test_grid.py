"""Going through a finite space: everything once, shuffled, the same way every time."""

from __future__ import annotations

from itertools import islice

import pytest

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    SearchSpace,
    canonical_key,
)
from hpo_service.search import grid as finite
from hpo_service.search.grid import shuffled

SIXTY = SearchSpace(
    parameters={
        "rank": CategoricalParameter(choices=[4, 8, 16]),
        "depth": IntParameter(low=1, high=4),
        "drop": FloatParameter(low=0.0, high=0.4, step=0.1),
    }
)
BRANCHES = SearchSpace(
    parameters={
        "kind": CategoricalParameter(choices=["a", "b", "c"]),
        "a": IntParameter(low=1, high=100, when={"kind": "a"}),
        "b": IntParameter(low=1, high=100, when={"kind": "b"}),
        "c": IntParameter(low=1, high=100, when={"kind": "c"}),
    }
)


def keys(space: SearchSpace, seed: int = 0, start: int = 0) -> list[str]:
    return [canonical_key(configuration) for configuration in shuffled(space, seed=seed, start=start)]


def test_every_configuration_comes_exactly_once() -> None:
    assert len(keys(SIXTY)) == len(set(keys(SIXTY))) == 60


def test_decimal_steps_give_decimal_values() -> None:
    assert {configuration["drop"] for configuration in shuffled(SIXTY, seed=0)} == {0.0, 0.1, 0.2, 0.3, 0.4}


def test_the_order_is_shuffled_by_the_seed_and_fixed() -> None:
    assert keys(SIXTY, seed=1) == keys(SIXTY, seed=1)
    assert keys(SIXTY, seed=1) != keys(SIXTY, seed=2)
    assert keys(SIXTY, seed=1) != sorted(keys(SIXTY, seed=1))


@pytest.mark.parametrize("space", [SIXTY, BRANCHES])
def test_a_later_start_turns_the_same_circle(space: SearchSpace) -> None:
    whole = keys(space, seed=3)
    assert keys(space, seed=3, start=17) == whole[17:] + whole[:17]
    assert keys(space, seed=3, start=len(whole) + 17) == keys(space, seed=3, start=17)


def test_branches_count_once_however_large_their_product() -> None:
    found = keys(BRANCHES)
    assert BRANCHES.size() == 3_000_000
    assert len(found) == len(set(found)) == 300


def test_a_branching_space_too_large_to_list_is_walked_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    small = SearchSpace(
        parameters={
            "kind": CategoricalParameter(choices=["a", "b"]),
            "a": IntParameter(low=1, high=5, when={"kind": "a"}),
            "b": IntParameter(low=1, high=3, when={"kind": "b"}),
        }
    )
    listed = set(keys(small))
    monkeypatch.setattr(finite, "LISTED_AT_MOST", 3)
    walked = keys(small)
    assert len(walked) == len(set(walked)) == 8
    assert set(walked) == listed


def test_a_huge_space_costs_nothing_to_begin() -> None:
    huge = SearchSpace(parameters={f"p{i}": IntParameter(low=0, high=10**6) for i in range(12)})
    first = [canonical_key(configuration) for configuration in islice(shuffled(huge, seed=0), 50)]
    assert len(set(first)) == 50


def test_a_single_configuration_is_a_space_too() -> None:
    space = SearchSpace(parameters={"x": FloatParameter(low=2.5, high=2.5)})
    assert list(shuffled(space, seed=0, start=4)) == [{"x": 2.5}]


def test_an_endless_space_is_refused_by_name() -> None:
    space = SearchSpace(parameters={"rate": FloatParameter(low=0, high=1)})
    with pytest.raises(ValueError, match="rate"):
        next(shuffled(space, seed=0))
