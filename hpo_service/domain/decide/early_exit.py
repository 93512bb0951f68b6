"""When a trial's curve says that it will not matter: its own slope, and what its peers gained from there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo_service.domain.decide.pruning import MIN_RUNG_VALUES, Measure, Verdict, ordinal

LEAST_CHANCE = 1 / 3
"""A trial goes on where the chance that it gains enough is at least this. Two that have ended are the fewest whose word
can be enough: of one that did not gain as much the rule of succession says 1/3, of two that did not 1/4."""


def stretch(step: int) -> int:
    """Return the length of a third of the way to an evaluation, in evaluations.

    A run's slope is taken over a share of its own past: the same stretch of its curve however often it is evaluated.
    """
    return max(1, (step + 1) // 3)


def look_back(step: int) -> tuple[int, int]:
    """Return the evaluations one and two stretches before, the later one first; 0 and less where there are none."""
    return step - stretch(step), step - 2 * stretch(step)


@dataclass(frozen=True)
class Outlook:
    """Where a trial stands among its peers at one evaluation; all values as badness, smaller is better.

    Attributes:
        best: its best value so far.
        before: its best value up to a stretch before; None where it had not reported by then.
        earlier: the same of two stretches before.
        step: the evaluation.
        evaluations: how many a full run makes.
        target: the best that another trial ended with, or has now where it is running; None where there is none.
        gains: of each trial that ended, how much better its last value is than its best had been at this evaluation.
        there: best values of the other trials by this evaluation, of those that came so far.
    """

    best: float
    before: float | None
    earlier: float | None
    step: int
    evaluations: int
    target: float | None
    gains: Sequence[float]
    there: Sequence[float]

    @property
    def reach(self) -> float:
        """The value it ends with, seen favourably: where its own curve leads.

        A curve that does not slow down (it gained as much in the last third of its way as in the third before) goes on
        at its slope. One that does is an exponential approach, whose gains fall from stretch to stretch by one factor,
        or a power law, which gains no more in each doubling of its way than in the one before (Domhan et al., 2015, fit
        both and more): whichever leads further.
        """
        assert self.before is not None, "only asked where it has a past"
        gained, length = self.before - self.best, stretch(self.step)
        ahead = (self.evaluations - self.step) / length
        if self.earlier is None or gained >= self.earlier - self.before:
            return self.best - gained * ahead
        factor = gained / (self.earlier - self.before)
        exponential = gained * factor * (1 - math.pow(factor, ahead)) / (1 - factor)
        power = gained * math.log(self.evaluations / self.step) / math.log(self.step / (self.step - length))
        return self.best - max(exponential, power)

    @property
    def chance(self) -> float:
        """The chance to gain what is missing: the rule of succession over those that ended."""
        return (self.gained + 1) / (len(self.gains) + 2)

    @property
    def gained(self) -> int:
        """How many of those that ended gained from here what it lacks."""
        assert self.target is not None, "only asked where there is something to gain on"
        missing = self.best - self.target
        return sum(gain >= missing for gain in self.gains)

    @property
    def rank(self) -> int:
        """Its place at this evaluation, from 1; equal values share the better one."""
        return 1 + sum(value < self.best for value in self.there)

    @property
    def behind(self) -> bool:
        """Whether it is in the worse half of those that came so far, where enough did."""
        count = len(self.there) + 1
        return count >= MIN_RUNG_VALUES and self.rank > math.ceil(count / 2)


def exit_early(value: float, outlook: Outlook, *, share: float, measure: Measure) -> Verdict:
    """Stop a trial that will not matter; both its own curve and its peers must say so.

    It goes on while its curve leads past the best of the others. Where it does not, it is stopped if it is in the worse
    half at this evaluation, or if fewer than one in three are expected to gain as much from here as it lacks. The best
    so far is never stopped.

    Args:
        value: what it reported last, for the sentence.
        outlook: where it stands.
        share: share of the run done, likewise.
        measure: what the values are.
    """
    place, target = measure.place(value, share), outlook.target
    if target is None:
        return Verdict(False, f"{place}: goes on, there is no other trial to compare with")
    if outlook.best <= target:
        return Verdict(False, f"{place}: goes on, none is better than its best, {_told(outlook.best, measure)}")
    aim = f"the best, {_told(target, measure)}"
    if outlook.before is None:
        return Verdict(False, f"{place}: goes on, it has no slope yet to compare with {aim}")
    reach = outlook.reach
    if reach <= target:
        return Verdict(False, f"{place}: goes on, its curve may lead to {_told(reach, measure)} and past {aim}")
    prune = outlook.behind or outlook.chance < LEAST_CHANCE
    peers = f"it is {ordinal(outlook.rank)} of {len(outlook.there) + 1} here"
    if outlook.gains:
        peers += f", and {outlook.gained} of {len(outlook.gains)} that ended gained from here what it lacks"
    lacking = f"its curve leads to {_told(reach, measure)}, short of {aim}"
    return Verdict(prune, f"{place}: {'stops' if prune else 'goes on'}, {lacking}; {peers}")


def best_until(curve: Mapping[int, float], step: int, measure: Measure) -> float | None:
    """Return the badness of a curve's best value up to an evaluation; None where it had reported nothing by then."""
    return min((measure.badness(value) for at, value in curve.items() if at <= step), default=None)


def _told(badness: float, measure: Measure) -> str:
    return f"{measure.direction.signed(badness):.4g}"
