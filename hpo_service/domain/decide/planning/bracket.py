"""The bracket: multiples of a learning rate that was carried over, tried side by side, and further on from its edge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_FACTOR = re.compile(r"lr x ([0-9.e+-]+)$")
LARGE_WIDTH = 4096
"""Hidden size from which a target counts as large: that of models of 7B parameters and more."""
DARING_RATE = 1e-3
"""Learning rate from which a large target may diverge: 1e-3 carried to 70B did so at every rank (Llama sweeps of
tinker-cookbook)."""
GUARD = 1 / 3
"""What of such a rate is tried besides."""


def label_of(stage: str, number: int, factor: float) -> str:
    """Name a trial by where its configuration came from, and its multiple of the learning rate."""
    return f"{stage} #{number}, lr x {factor:.3g}"


def factor_of(label: str) -> float | None:
    """Return the multiple of the carried-over learning rate that a trial of this label runs at, if it is one."""
    match = _FACTOR.search(label)
    return float(match.group(1)) if match else None


def factors(bracket: Sequence[float], rate: float, width: int) -> list[float]:
    """Return the multiples to be tried, rising.

    Args:
        bracket: what the study file says.
        rate: the learning rate carried over.
        width: hidden size of the target; on a large one a daring rate is tried at a third of it too.
    """
    daring = rate >= DARING_RATE and width >= LARGE_WIDTH and min(bracket) > GUARD
    return sorted({*bracket, *([GUARD] if daring else [])})


@dataclass(frozen=True)
class Edge:
    """The best of a bracket lies at its edge: the next multiple, in the same ratio as the two before it."""

    factor: float
    reason: str


def beyond(tried: Sequence[float], best: float) -> Edge | None:
    """Say what is to be tried next where the best multiple is the lowest or highest one; None where it is neither.

    Args:
        tried: all multiples that were tried, in any order; of a single one nothing can be said.
        best: that of the best trial.
    """
    rising = sorted(set(tried))
    if len(rising) < 2 or best not in (rising[0], rising[-1]):
        return None
    side, neighbour = ("lowest", rising[1]) if best == rising[0] else ("highest", rising[-2])
    following = best * best / neighbour
    return Edge(following, f"x {best:.3g} is the best and the {side} of the bracket, so x {following:.3g} is tried too")
