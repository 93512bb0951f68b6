"""Choosing between measured configurations, always with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
    canonical_key,
)

NEAR = 0.1
"""Share of a parameter's range within which two values count as one."""
NAMED = 10
"""Trials that a reason names; of more the others are counted."""


@dataclass(frozen=True)
class Measured:
    """A configuration with the value it ended with.

    Attributes:
        trial_id: of the trial.
        number: its number in its stage.
        parameters: its values.
        value: what it ended with.
        complete: False for a trial that was stopped early: its value is not comparable with complete ones.
        group: its label.
        role: what it was for.
        origin_id: the trial whose configuration it carried over.
        share: of the training rows that it was trained on.
        violated: which limits of the study it broke, in words; empty where none.
    """

    trial_id: int
    number: int
    parameters: dict[str, ParameterValue]
    value: float
    complete: bool = True
    group: str = ""
    role: str = ""
    origin_id: int | None = None
    share: float = 1.0
    violated: str = ""


@dataclass(frozen=True)
class Choice:
    """Chosen configurations, best first, and why these."""

    chosen: list[Measured]
    reason: str


def choose_top(
    measured: Iterable[Measured],
    top: int,
    direction: Direction = Direction.MINIMIZE,
    space: SearchSpace | None = None,
) -> Choice:
    """Choose the best `top` distinct configurations among those that ran to the end.

    Ties go to the earlier trial. Configurations stopped early are never chosen: a loss in mid-epoch says who
    loses, not who wins; nor are those that broke a limit, or were trained on fewer rows than another. Neighbours of
    one that is chosen say little that it does not say itself: they are passed over unless there are too few others.

    Args:
        measured: to choose from.
        top: how many.
        direction: which values are better.
        space: tells who are neighbours; without it only equal configurations are.
    """
    everyone = list(measured)
    complete = [m for m in everyone if m.complete and math.isfinite(m.value)]
    ended = [m for m in complete if not m.violated]
    most = max((m.share for m in ended), default=1.0)
    ranked = _ranked((m for m in ended if m.share == most), direction)
    chosen, passed_over = _apart(_distinct(ranked), top, space)
    stopped = sum(not m.complete for m in everyone)
    beyond = _beyond(complete)
    if not chosen:
        kept = " and kept the limits" if beyond else ""
        return Choice([], f"none of {len(everyone)} trials ran to the end with a finite value{kept}{beyond}")
    names = ", ".join(f"#{m.number} ({m.value:.4f})" for m in chosen)
    first = f"{direction.superlative} validation value of {len(ranked)} complete trials"
    neighbours = ", ".join(f"#{m.number}" for m in passed_over)
    beside = f"; {neighbours} passed over as a neighbour of a better one" if neighbours else ""
    return Choice(chosen, f"{first}: {names}{beside}; {stopped} stopped early left out{beyond}")


def _beyond(ended: Sequence[Measured]) -> str:
    """Name those that broke a limit, and say of the one with the least number which."""
    broke = sorted((m for m in ended if m.violated), key=lambda m: m.number)
    if not broke:
        return ""
    names = ", ".join(f"#{m.number}" for m in broke[:NAMED])
    names += f" and {len(broke) - NAMED} more" if len(broke) > NAMED else ""
    return f"; not chosen for what they cost: {names} (#{broke[0].number}: {broke[0].violated})"


def _apart(ranked: Sequence[Measured], top: int, space: SearchSpace | None) -> tuple[list[Measured], list[Measured]]:
    """Return the best that are no neighbours of each other, and those passed over; the latter fill up what is short."""
    chosen: list[Measured] = []
    passed: list[Measured] = []
    for m in ranked:
        if len(chosen) == top:
            break
        near = space is not None and any(neighbours(m.parameters, other.parameters, space) for other in chosen)
        (passed if near else chosen).append(m)
    missing = top - len(chosen)
    filled = [*chosen, *passed[:missing]]
    return [m for m in ranked if m in filled], passed[missing:]


def neighbours(one: Mapping[str, ParameterValue], other: Mapping[str, ParameterValue], space: SearchSpace) -> bool:
    """Tell whether two configurations lie within a tenth of the range of each parameter, and agree in all choices."""
    if one.keys() != other.keys():
        return False
    return all(_near(space.parameters.get(name), value, other[name]) for name, value in one.items())


def _near(parameter: Parameter | None, one: ParameterValue, other: ParameterValue) -> bool:
    if parameter is None or isinstance(parameter, CategoricalParameter):
        return one == other
    ends = [float(each) for each in (one, other, parameter.low, parameter.high)]
    if parameter.log:
        ends = [math.log(end) for end in ends]
    return abs(ends[0] - ends[1]) <= NEAR * (ends[3] - ends[2])


def _ranked(measured: Iterable[Measured], direction: Direction) -> list[Measured]:
    return sorted(measured, key=lambda m: (direction.badness(m.value), m.number))


def _distinct(ranked: Sequence[Measured]) -> list[Measured]:
    seen: set[str] = set()
    distinct = []
    for m in ranked:
        key = canonical_key(m.parameters)
        if key not in seen:
            seen.add(key)
            distinct.append(m)
    return distinct


def choose_group(measured: Iterable[Measured], direction: Direction = Direction.MINIMIZE) -> Choice:
    """Choose the group (a configuration run with several seeds) with the best mean value; its seeds, best first."""
    groups: dict[str, list[Measured]] = {}
    for m in measured:
        if m.complete and math.isfinite(m.value) and not m.violated:
            groups.setdefault(m.group, []).append(m)
    if not groups:
        return Choice([], "no configuration ended with a finite value")
    means = {name: sum(m.value for m in members) / len(members) for name, members in groups.items()}
    ranked = sorted(means, key=lambda name: direction.badness(means[name]))
    listing = ", ".join(f"{name} {means[name]:.4f}" for name in ranked)
    return Choice(_ranked(groups[ranked[0]], direction), f"best mean validation value over seeds: {listing}")
