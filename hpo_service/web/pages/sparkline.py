"""A curve so small that it stands in a row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo_service.presentation.formatting import measured

WIDTH, HEIGHT, MARGIN = 96.0, 24.0, 2.0
MOST_POINTS = 48


@dataclass(frozen=True)
class Sparkline:
    """Points of an SVG polyline within `WIDTH` by `HEIGHT`, where its last one is, and what it says in words."""

    points: str
    last: tuple[float, float]
    text: str


def sparkline(values: Sequence[float | None]) -> Sparkline | None:
    """Draw finite values from left to right, thinned to what can be seen; None where there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    step = max(1, -(-len(known) // MOST_POINTS))
    drawn = [*known[:-1:step], known[-1]]
    low, high = min(drawn), max(drawn)
    across = (WIDTH - 2 * MARGIN) / max(1, len(drawn) - 1)
    down = (HEIGHT - 2 * MARGIN) / ((high - low) or 1.0)
    places = [(MARGIN + across * i, HEIGHT - MARGIN - down * (value - low)) for i, value in enumerate(drawn)]
    text = f"from {measured(known[0])} to {measured(known[-1])} in {len(known)} reports"
    return Sparkline(" ".join(f"{x:.1f},{y:.1f}" for x, y in places), places[-1], text)
