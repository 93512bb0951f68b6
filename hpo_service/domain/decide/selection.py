"""Choosing between measured configurations, always with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import ParameterValue, canonical_key


@dataclass(frozen=True)
class Measured:
    """A configuration with the value it ended with.

    `complete` is False for a trial that was stopped early: its value is not comparable with complete ones.
    """

    trial_id: int
    number: int
    parameters: dict[str, ParameterValue]
    value: float
    complete: bool = True
    group: str = ""


@dataclass(frozen=True)
class Choice:
    """Chosen configurations, best first, and why these."""

    chosen: list[Measured]
    reason: str


def choose_top(measured: Iterable[Measured], top: int, direction: Direction = Direction.MINIMIZE) -> Choice:
    """Choose the best `top` distinct configurations among those that ran to the end.

    Ties go to the earlier trial. Configurations stopped early are never chosen: a loss in mid-epoch says who
    loses, not who wins.
    """
    everyone = list(measured)
    ranked = _ranked((m for m in everyone if m.complete and math.isfinite(m.value)), direction)
    chosen = _distinct(ranked)[:top]
    stopped = sum(not m.complete for m in everyone)
    if not chosen:
        return Choice([], f"none of {len(everyone)} trials ran to the end with a finite value")
    names = ", ".join(f"#{m.number} ({m.value:.4f})" for m in chosen)
    first = f"{direction.superlative} validation value of {len(ranked)} complete trials"
    return Choice(chosen, f"{first}: {names}; {stopped} stopped early left out")


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
        if m.complete and math.isfinite(m.value):
            groups.setdefault(m.group, []).append(m)
    if not groups:
        return Choice([], "no configuration ended with a finite value")
    means = {name: sum(m.value for m in members) / len(members) for name, members in groups.items()}
    ranked = sorted(means, key=lambda name: direction.badness(means[name]))
    listing = ", ".join(f"{name} {means[name]:.4f}" for name in ranked)
    return Choice(_ranked(groups[ranked[0]], direction), f"best mean validation value over seeds: {listing}")
