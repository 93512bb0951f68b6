"""Choosing between measured configurations, always with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


def choose_top(measured: Iterable[Measured], top: int, *, maximize: bool = False) -> Choice:
    """Choose the best `top` distinct configurations among those that ran to the end.

    Ties go to the earlier trial. Configurations stopped early are never chosen: a loss in mid-epoch says who
    loses, not who wins.
    """
    everyone = list(measured)
    sign = -1.0 if maximize else 1.0
    ranked = sorted(
        (m for m in everyone if m.complete and math.isfinite(m.value)), key=lambda m: (sign * m.value, m.number)
    )
    chosen = _distinct(ranked)[:top]
    stopped = sum(not m.complete for m in everyone)
    if not chosen:
        return Choice([], f"none of {len(everyone)} trials ran to the end with a finite value")
    names = ", ".join(f"#{m.number} ({m.value:.4f})" for m in chosen)
    word = "highest" if maximize else "lowest"
    return Choice(
        chosen, f"{word} validation value of {len(ranked)} complete trials: {names}; {stopped} stopped early left out"
    )


def _distinct(ranked: Sequence[Measured]) -> list[Measured]:
    seen: set[str] = set()
    distinct = []
    for m in ranked:
        key = canonical_key(m.parameters)
        if key not in seen:
            seen.add(key)
            distinct.append(m)
    return distinct


def choose_group(measured: Iterable[Measured], *, maximize: bool = False) -> Choice:
    """Choose the group (a configuration run with several seeds) with the best mean value; its seeds, best first."""
    sign = -1.0 if maximize else 1.0
    groups: dict[str, list[Measured]] = {}
    for m in measured:
        if m.complete and math.isfinite(m.value):
            groups.setdefault(m.group, []).append(m)
    if not groups:
        return Choice([], "no configuration ended with a finite value")
    means = {name: sum(m.value for m in members) / len(members) for name, members in groups.items()}
    best = min(means, key=lambda name: sign * means[name])
    listing = ", ".join(f"{name} {mean:.4f}" for name, mean in sorted(means.items(), key=lambda kv: sign * kv[1]))
    members = sorted(groups[best], key=lambda m: (sign * m.value, m.number))
    return Choice(members, f"best mean validation value over seeds: {listing}")
