"""Who stops losers: a table of pruners, each a verdict on one trial among its peers, with the reason in words."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpo_service.domain.decide.early_exit import Outlook, best_until, exit_early, look_back
from hpo_service.domain.decide.pruning import (
    Measure,
    Verdict,
    diverged,
    halve,
    rung_reached,
    usable_rungs,
    values_at_rung,
)
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.trial.curve import Curve, Peers
from hpo_service.domain.trial.states import TrialState

STANDING = frozenset({TrialState.COMPLETE, TrialState.RUNNING})
"""Trials whose latest value may become the best of the study; nobody is stopped for one that will not."""
STARTUP_TRIALS = 5
"""Percentile and median stop nobody before this many trials ran to the end."""
QUARTERS = (1 / 16, 1 / 4)
"""Rungs of successive halving: a trial that passes one goes four times as far (`optuna.pruners`' reduction factor)."""
BRACKETS = {0: (), 1: (1 / 3,), 2: (1 / 9, 1 / 3)}
"""Rungs of hyperband's brackets: one that passes goes three times as far; those in bracket 0 run to their end."""
SHARES = {2: 9, 1: 5, 0: 3}
"""Trials of each bracket in 17: hyperband's, so that brackets cost about the same (Li et al., 2018, algorithm 1)."""


@dataclass(frozen=True)
class Case:
    """A trial that has just reported, and what it is judged by.

    Attributes:
        curve: what it has reported by evaluation (from 1); its two latest reports, its best now and at
            both evaluations of `look_back` are enough.
        peers: loads the curves of the other trials of the stage; only called where they are compared.
        search: the rungs of halving, and the other pruners' options.
        evaluations: how many reports a full run makes.
        warmup: share of the run before which no losses are compared.
        measure: what is reported.
        fraction: share of the run at the latest report, where it is not simply its number over `evaluations`.
        ordinal: the trial's number in its stage, from 0.
    """

    curve: Mapping[int, float]
    peers: Callable[[], Peers]
    search: SearchSpec
    evaluations: int
    warmup: float
    measure: Measure
    fraction: float | None = None
    ordinal: int = 0

    @property
    def step(self) -> int:
        """The latest evaluation."""
        return max(self.curve)

    @property
    def value(self) -> float:
        """What it reported there."""
        return self.curve[self.step]

    @property
    def share(self) -> float:
        """Share of the run at the latest report."""
        return min(1.0, self.step / self.evaluations) if self.fraction is None else self.fraction

    @property
    def place(self) -> str:
        """The latest report in words."""
        return self.measure.place(self.value, self.share)

    @property
    def first_step(self) -> int:
        """The first evaluation that is not before the end of the warm-up."""
        return max(1, math.ceil(self.warmup * self.evaluations - 1e-9))

    @property
    def spared(self) -> Verdict | None:
        """Why nobody is compared at this evaluation: it is the last, or the warm-up of some has not ended."""
        if self.step >= self.evaluations:
            return Verdict(False, f"{self.place}: goes on, nothing is left to save at the last evaluation")
        if self.step < self.first_step:
            return Verdict(False, f"{self.place}: goes on, nobody is stopped before the longest warm-up has ended")
        return None


@dataclass(frozen=True)
class Pruner:
    """A named pruner and why one would choose it."""

    judge: Callable[[Case], Verdict]
    reason: str


def _halving(case: Case) -> Verdict:
    return _at_rungs(case, case.search.rungs, factor=2)


def _successive(case: Case) -> Verdict:
    return _at_rungs(case, QUARTERS, factor=4)


def _hyperband(case: Case) -> Verdict:
    mine = bracket_of(case.ordinal)
    if not BRACKETS[mine]:
        return Verdict(False, f"{case.place}: goes on, trials of bracket 0 run to their end")
    verdict = _at_rungs(case, BRACKETS[mine], factor=3, among=lambda curve: bracket_of(curve.ordinal) == mine)
    return Verdict(verdict.prune, f"{verdict.reason} (bracket {mine} of hyperband)")


def bracket_of(ordinal: int) -> int:
    """Return the hyperband bracket of a trial: drawn by its number, so that every worker draws the same."""
    drawn = zlib.crc32(str(ordinal).encode()) % sum(SHARES.values())
    for bracket, share in SHARES.items():
        if drawn < share:
            return bracket
        drawn -= share
    raise AssertionError("shares add up to their sum")


def _at_rungs(
    case: Case, fractions: Sequence[float], *, factor: int, among: Callable[[Curve], bool] = lambda _curve: True
) -> Verdict:
    """Compare at rungs, where one in `factor` goes on, with those of the curves that are `among` its peers."""
    rungs = usable_rungs(fractions, evaluations=case.evaluations, warmup=case.warmup)
    rung = rung_reached(rungs, list(case.curve), case.step)
    if rung is None:
        ahead = [r for r in rungs if r > case.step]
        more = f"the next is at {ahead[0] / case.evaluations:.0%}" if ahead else "none is ahead"
        return Verdict(False, f"{case.place}: goes on between rungs, {more}")

    def there(curves: Iterable[Curve]) -> list[float]:
        compared = [
            (curve.values, curve.state is TrialState.PRUNED) for curve in curves if curve.compares and among(curve)
        ]
        return values_at_rung(compared, rungs, rung)

    bracket = bracket_of(case.ordinal) if case.search.pruner == "hyperband" else None
    known = case.peers().find(("rung", bracket, *rungs, rung), there)
    return halve(case.value, known, share=rung / case.evaluations, measure=case.measure, factor=factor)


def _early_exit(case: Case) -> Verdict:
    if case.spared:
        return case.spared
    step, measure, peers = case.step, case.measure, case.peers()
    one, two = look_back(step)

    def gains(curves: Iterable[Curve]) -> list[float]:
        """How much better complete trials ended than their best was by this evaluation, or than their first value."""
        return [_badness_by(curve, step, measure) - _last(curve, measure) for curve in curves if _complete(curve)]

    def there(curves: Iterable[Curve]) -> list[float]:
        """Best values by this evaluation, of trials that came so far or ended before."""
        arrived = (c for c in curves if c.values and c.compares and (max(c.values) >= step or _complete(c)))
        return [_badness_by(curve, step, measure) for curve in arrived]

    def standing(curves: Iterable[Curve]) -> list[float]:
        """What complete trials ended with, and running ones have now."""
        alive = (curve for curve in curves if curve.values and curve.state in STANDING)
        return [_last(curve, measure) for curve in alive]

    outlook = Outlook(
        best=min(measure.badness(value) for value in case.curve.values()),
        before=best_until(case.curve, one, measure),
        earlier=best_until(case.curve, two, measure),
        step=step,
        evaluations=case.evaluations,
        target=min(peers.find("standing", standing), default=None),
        gains=peers.find(("gains", step), gains),
        there=peers.find(("best by", step), there),
    )
    return exit_early(case.value, outlook, share=case.share, measure=measure)


def _last(curve: Curve, measure: Measure) -> float:
    return measure.badness(curve.values[max(curve.values)])


def _badness_by(curve: Curve, step: int, measure: Measure) -> float:
    best = best_until(curve.values, step, measure)
    return measure.badness(curve.values[min(curve.values)]) if best is None else best


def _percentile(percentile: float) -> Callable[[Case], Verdict]:
    def judge(case: Case) -> Verdict:
        if case.spared:
            return case.spared
        peers = case.peers()
        complete = len(peers.find("complete", lambda curves: [c.state for c in curves if _complete(c)]))
        if complete < STARTUP_TRIALS:
            return Verdict(False, f"{case.place}: goes on, {complete} of {STARTUP_TRIALS} trials have completed")
        step = case.step
        there = peers.find(("step", step), lambda curves: [c.values[step] for c in curves if _complete(c, step)])
        best = min(case.curve.values(), key=case.measure.badness)
        prune = _outside(best, there, percentile, case.measure.direction)
        side, ending = ("outside", "stops") if prune else ("within", "goes on")
        return Verdict(
            prune,
            f"{case.place}: its best, {best:.4g}, is {side} the better {percentile:.0f}%"
            f" of {len(there)} complete trials there; {ending}",
        )

    return judge


def _complete(curve: Curve, step: int | None = None) -> bool:
    """Whether a trial ran to its end, and, where a step is given, reported there."""
    return curve.state is TrialState.COMPLETE and (step is None or step in curve.values)


def _outside(best: float, there: Sequence[float], percentile: float, direction: Direction) -> bool:
    """Whether a trial's best value is worse than a percentile of others' values: `optuna.pruners.PercentilePruner`."""
    numbers = [value for value in there if not math.isnan(value)]
    if not numbers:
        return False
    limit = float(np.percentile(numbers, 100.0 - percentile if direction.maximize else percentile))
    return direction.badness(best) > direction.badness(limit)


def _patient(case: Case) -> Verdict:
    if case.spared:
        return case.spared
    patience, measure = case.search.patience, case.measure
    at = min(case.curve, key=lambda step: (measure.badness(case.curve[step]), step))
    best = f"its best, {case.curve[at]:.4g}, is {case.step - at} evaluations old"
    if case.step - at <= patience:
        return Verdict(False, f"{case.place}: goes on, {best}; patience is {patience}")
    return Verdict(True, f"{case.place}: {best}, more than the {patience} of search.patience; stops")


def _threshold(case: Case) -> Verdict:
    if case.spared:
        return case.spared
    limits = (("below", case.search.threshold_lower), ("above", case.search.threshold_upper))
    for side, limit in limits:
        if limit is not None and (case.value < limit if side == "below" else case.value > limit):
            return Verdict(True, f"{case.place} is {side} the threshold of {limit:g}; stops")
    within = " and ".join(f"not {side} {limit:g}" for side, limit in limits if limit is not None)
    return Verdict(False, f"{case.place}: goes on, {within}")


def _none(case: Case) -> Verdict:
    return Verdict(False, f"{case.place}: goes on, pruning is switched off")


def _unless_diverged(judge: Callable[[Case], Verdict]) -> Callable[[Case], Verdict]:
    def judged(case: Case) -> Verdict:
        return diverged(case.value, case.measure) or judge(case)

    return judged


PRUNERS: dict[str, Pruner] = {
    "early_exit": Pruner(
        _unless_diverged(_early_exit),
        "stops who neither its own slope nor its peers' gains carry past the best: .32 of the compute of running all"
        " for .14% on the replayed runs it was chosen on, halving .36 for .39%; worse where curves fall late",
    ),
    "halving": Pruner(
        _unless_diverged(_halving),
        "the better half goes on at 25% and 50% of the run: 64 to 80% of the compute in studies of 14 to 20 trials,"
        " half of it in large ones, for a regret of 0.002 to 0.009 points in replays of 64 real fine-tuning runs",
    ),
    "successive_halving": Pruner(
        _unless_diverged(_successive),
        "the best quarter goes on at a sixteenth and a quarter of the run: for many trials and curves that tell early",
    ),
    "hyperband": Pruner(
        _unless_diverged(_hyperband),
        "successive halving in three brackets, one of which stops nobody: where it is unknown how early curves tell",
    ),
    "percentile": Pruner(
        _unless_diverged(_percentile(75.0)),
        "stops the worst quarter only: the mildest, best of Optuna's pruners over several tables of real runs",
    ),
    "median": Pruner(
        _unless_diverged(_percentile(50.0)),
        "stops the worse half at every evaluation: cheaper than halving, with more regret (0.027 points)",
    ),
    "patient": Pruner(
        _unless_diverged(_patient),
        "stops a trial that has not become better for search.patience evaluations, whatever the others do",
    ),
    "threshold": Pruner(
        _unless_diverged(_threshold),
        "stops a trial whose value leaves known bounds: where it is known what a hopeless run reports",
    ),
    "none": Pruner(_none, "every trial runs to its end"),
}
"""Pruners by the name they have in the study file."""
