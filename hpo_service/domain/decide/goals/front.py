"""The Pareto front of several goals: the points that no other beats in all of them."""

from __future__ import annotations

from collections.abc import Sequence


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether a point is nowhere worse than another and somewhere better; smaller is better in every goal."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Return the places of the points that no other dominates, in their order; equal ones are all on the front.

    A point can only be dominated by one that comes before it in lexicographic order, and then also by one of the front
    (Kung, Luccio and Preparata, 1975), so that each is compared with the front found so far.
    """
    found: list[int] = []
    for place in sorted(range(len(points)), key=lambda each: tuple(points[each])):
        if not any(dominates(points[other], points[place]) for other in found):
            found.append(place)
    return sorted(found)
