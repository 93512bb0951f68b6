"""Who stops losers: a table of pruners, each a verdict on one trial among its peers, with the reason in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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
from hpo_service.domain.trial.curve import Curve, Peers
from hpo_service.domain.trial.states import TrialState

STARTUP_TRIALS = 5
"""Percentile and median stop nobody before this many trials ran to the end."""


@dataclass(frozen=True)
class Case:
    """A trial that has just reported, and what it is judged by.

    Attributes:
        curve: what it has reported by evaluation (from 1); its two latest reports and its best are enough.
        peers: loads the curves of the other trials of the stage; only called where they are compared.
        rungs: fractions of the run at which halving compares.
        evaluations: how many reports a full run makes.
        warmup: share of the run before which no losses are compared.
        measure: what is reported.
        fraction: share of the run at the latest report, where it is not simply its number over `evaluations`.
    """

    curve: Mapping[int, float]
    peers: Callable[[], Peers]
    rungs: Sequence[float]
    evaluations: int
    warmup: float
    measure: Measure
    fraction: float | None = None

    @property
    def step(self) -> int:
        """The latest evaluation."""
        return max(self.curve)

    @property
    def value(self) -> float:
        """What it reported there."""
        return self.curve[self.step]

    @property
    def place(self) -> str:
        """The latest report in words."""
        share = min(1.0, self.step / self.evaluations) if self.fraction is None else self.fraction
        return self.measure.place(self.value, share)

    @property
    def first_step(self) -> int:
        """The first evaluation that is not before the end of the warm-up."""
        return max(1, math.ceil(self.warmup * self.evaluations - 1e-9))


@dataclass(frozen=True)
class Pruner:
    """A named pruner and why one would choose it."""

    judge: Callable[[Case], Verdict]
    reason: str


def _halving(case: Case) -> Verdict:
    rungs = usable_rungs(case.rungs, evaluations=case.evaluations, warmup=case.warmup)
    rung = rung_reached(rungs, list(case.curve), case.step)
    if rung is None:
        ahead = [r for r in rungs if r > case.step]
        more = f"the next is at {ahead[0] / case.evaluations:.0%}" if ahead else "none is ahead"
        return Verdict(False, f"{case.place}: goes on between rungs, {more}")

    def there(curves: Iterable[Curve]) -> list[float]:
        compared = [(curve.values, curve.state is TrialState.PRUNED) for curve in curves if curve.compares]
        return values_at_rung(compared, rungs, rung)

    known = case.peers().find(("rung", *rungs, rung), there)
    return halve(case.value, known, share=rung / case.evaluations, measure=case.measure)


def _percentile(percentile: float) -> Callable[[Case], Verdict]:
    def judge(case: Case) -> Verdict:
        if case.step >= case.evaluations:
            return Verdict(False, f"{case.place}: goes on, nothing is left to save at the last evaluation")
        if case.step < case.first_step:
            return Verdict(False, f"{case.place}: goes on, nobody is stopped before the longest warm-up has ended")
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


def _none(case: Case) -> Verdict:
    return Verdict(False, f"{case.place}: goes on, pruning is switched off")


def _unless_diverged(judge: Callable[[Case], Verdict]) -> Callable[[Case], Verdict]:
    def judged(case: Case) -> Verdict:
        return diverged(case.value, case.measure) or judge(case)

    return judged


PRUNERS: dict[str, Pruner] = {
    "halving": Pruner(
        _unless_diverged(_halving),
        "the better half goes on at 25% and 50% of the run: 64 to 80% of the compute in studies of 14 to 20 trials,"
        " half of it in large ones, for a regret of 0.002 to 0.009 points in replays of 64 real fine-tuning runs",
    ),
    "percentile": Pruner(
        _unless_diverged(_percentile(75.0)),
        "stops the worst quarter only: the mildest, best of Optuna's pruners over several tables of real runs",
    ),
    "median": Pruner(
        _unless_diverged(_percentile(50.0)),
        "stops the worse half at every evaluation: cheaper than halving, with more regret (0.027 points)",
    ),
    "none": Pruner(_none, "every trial runs to its end"),
}
"""Pruners by the name they have in the study file."""
