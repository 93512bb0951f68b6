"""The Pareto front, whatever the points are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.decide.goals.front import dominates, front

VALUES = st.one_of(st.integers(0, 4).map(float), st.floats(-1e6, 1e6))
POINTS = st.integers(2, 4).flatmap(lambda goals: st.lists(st.tuples(*[VALUES] * goals), max_size=30))


@given(POINTS)
def test_no_point_of_a_front_is_dominated_and_every_other_is_by_one_of_it(points: list[tuple[float, ...]]) -> None:
    found = front(points)
    best = [points[place] for place in found]
    assert not any(dominates(one, other) for one in best for other in best)
    others = [point for place, point in enumerate(points) if place not in found]
    assert all(any(dominates(one, other) for one in best) for other in others)


@given(POINTS)
def test_a_front_is_its_own_front_and_no_points_have_none(points: list[tuple[float, ...]]) -> None:
    best = [points[place] for place in front(points)]
    assert front(best) == list(range(len(best)))
    assert bool(best) == bool(points)


@given(POINTS, st.randoms())
def test_the_order_of_the_points_does_not_matter(points: list[tuple[float, ...]], random: object) -> None:
    shuffled = list(points)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sorted(points[place] for place in front(points)) == sorted(shuffled[place] for place in front(shuffled))


@given(st.tuples(VALUES, VALUES), st.tuples(VALUES, VALUES))
def test_two_points_never_dominate_each_other(one: tuple[float, float], other: tuple[float, float]) -> None:
    assert not (dominates(one, other) and dominates(other, one))
    assert not dominates(one, one)
