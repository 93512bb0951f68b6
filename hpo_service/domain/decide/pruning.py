"""When a losing trial is stopped: pure rules over the values trials reported, each with its reason in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import CategoricalParameter, SearchSpace

MIN_RUNG_VALUES = 4
"""Halving compares nothing before this many trials (the judged one included) have a value at the rung."""

KEPT = {2: "the better half", 3: "the best third", 4: "the best quarter"}
"""Who goes on at a rung, by the reduction factor."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdict:
    """Whether a trial must stop now, and why or why not."""

    prune: bool
    reason: str


@dataclass(frozen=True)
class Measure:
    """What is compared.

    Attributes:
        name: what it is called in sentences.
        direction: whether less or more of it is better.
        span: what shares are of: the epoch, or the run where it is not just one epoch.
    """

    name: str = "validation loss"
    direction: Direction = Direction.MINIMIZE
    span: str = "epoch"

    def place(self, value: float, share: float) -> str:
        """Say what was measured, and where."""
        return f"{self.name} {value:.4g} at {share:.0%} of the {self.span}"

    def badness(self, value: float) -> float:
        """Return the value so that smaller is better; what is not a number is the worst there is."""
        return self.direction.badness(value)


def longest_warmup(space: SearchSpace, *, default: float) -> float:
    """Return the largest share of the run that any configuration of the space may spend warming up.

    Args:
        space: what is searched.
        default: the warm-up of configurations in which it is not searched.
    """
    parameter = space.parameters.get("warmup_ratio")
    if parameter is None:
        return default
    if isinstance(parameter, CategoricalParameter):
        longest = max((v for v in parameter.choices if isinstance(v, int | float)), default=default)
    else:
        longest = parameter.high
    return max(float(longest), default) if parameter.when else float(longest)


def rung_step(rung: float, evaluations: int) -> int:
    """Return the first evaluation not before the rung, where evaluation k of n is at fraction k / n."""
    return max(1, math.ceil(rung * evaluations - _ROUNDING))


def usable_rungs(rungs: Sequence[float], *, evaluations: int, warmup: float) -> list[int]:
    """Return the evaluations at which trials are compared, rising.

    A rung before the end of the longest warm-up is left out (losses of short and long warm-ups don't compare
    there), and so is one at the last evaluation, where nothing is left to save.
    """
    steps = {rung_step(rung, evaluations) for rung in rungs}
    return sorted(s for s in steps if s < evaluations and s / evaluations >= warmup - _ROUNDING)


def rung_reached(steps: Sequence[int], reported: Sequence[int], step: int) -> int | None:
    """Return the highest rung that the report at `step` is the first to reach, or None.

    Args:
        steps: the rungs, as evaluations.
        reported: all evaluations the trial has reported, `step` included or not.
        step: the evaluation just reported.
    """
    before = max((s for s in reported if s < step), default=0)
    return max((rung for rung in steps if before < rung <= step), default=None)


def values_at_rung(curves: Iterable[tuple[Mapping[int, float], bool]], rungs: Sequence[int], rung: int) -> list[float]:
    """Return what other trials have at a rung, the lost ones as the worst there is.

    A trial whose loss was not finite counts with that; so does, at the first rung, one that was stopped before it: only
    a run that diverged ends there. One that has not come so far, or was stopped at an earlier rung, is left out.

    Args:
        curves: of each trial what it reported by evaluation, and whether it was stopped early.
        rungs: all rungs, as evaluations, rising.
        rung: the one at which trials are compared.
    """
    found = []
    for curve, stopped in curves:
        value = value_at(curve, rung)
        if value is not None:
            found.append(value)
        elif any(not math.isfinite(each) for each in curve.values()) or (stopped and rung == rungs[0]):
            found.append(math.nan)
    return found


def value_at(curve: Mapping[int, float], step: int) -> float | None:
    """Return the value of the first evaluation at or after `step`, or None where the trial has not come so far."""
    first = min((s for s in curve if s >= step), default=None)
    return None if first is None else curve[first]


def diverged(value: float, measure: Measure) -> Verdict | None:
    """Stop a trial whose measure is no longer a number: no later step brings it back."""
    if math.isfinite(value):
        return None
    return Verdict(True, f"diverged: {measure.name} is {value}")


def halve(value: float, others: Sequence[float], *, share: float, measure: Measure, factor: int = 2) -> Verdict:
    """Let one in `factor` of a rung go on: rank at most ceil(n / factor) of the n values recorded there so far.

    Asynchronous successive halving (Li et al., 2020): nobody waits for a rung to fill. Equal values share the better
    rank, so the best so far always goes on.

    Args:
        value: the judged trial's value at the rung.
        others: the other trials' values there.
        share: the rung as a fraction of the run, for the sentence.
        measure: what the values are.
        factor: the reduction factor, one of those in `KEPT`.
    """
    place = measure.place(value, share)
    count = len(others) + 1
    if count < MIN_RUNG_VALUES:
        return Verdict(False, f"{place}: goes on, {count} of the {MIN_RUNG_VALUES} values a comparison needs")
    import numpy as np  # not at the top: who only reads a study file, which names these rules, starts without it

    signed = np.asarray([value, *others]) * measure.direction.signed(1.0)
    ranked = np.sort(np.where(np.isnan(signed), np.inf, signed))
    badness, cutoff = measure.badness(value), float(ranked[math.ceil(count / factor) - 1])
    rank = int(np.searchsorted(ranked, badness)) + 1
    limit, bound = measure.direction.signed(cutoff), "from" if measure.direction.maximize else "up to"
    prune = badness > cutoff
    verb = f"only {KEPT[factor]}" if prune else KEPT[factor]
    return Verdict(prune, f"{place} is {ordinal(rank)} of {count}; {verb} ({bound} {limit:.4g}) goes on")


def ordinal(number: int) -> str:
    """Write a rank: 1st, 2nd, 3rd, 4th."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
