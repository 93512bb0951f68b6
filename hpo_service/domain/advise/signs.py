"""How faults of a run show in its log, with the figures of each rule; most thresholds are those of guides."""

from __future__ import annotations

import statistics
from typing import Literal

from hpo_service.domain.advise.run_log import FEWEST_POINTS, Curve, RunLog
from hpo_service.domain.advise.trend import Trend

Level = Literal["severe", "warning", "note"]
Seen = tuple[Level, str] | None
"""How bad it is and the figures that show it, or None where it is not there."""

DIVERGED = 1.5
"""A training loss that ends this many times above its beginning has diverged."""
ENDS = 5
"""Points of a curve's beginning and end that stand for it."""
ROUGH_SHARE, ROUGH_RISE = 0.2, 1.25
"""Wild swings of the first fifth of a run: it lies this many times above its own first losses."""
SPIKE, SPIKES, BEFORE_SPIKE = 1.5, 2, 10
"""A spike is a loss this many times the middle of the points before it; so many of them are a fault."""
UNSTABLE, LAST = 0.1, 20
"""Coefficient of variation around their trend of the last training losses."""
LARGEST_NORM = 5.0
"""Gradient norm that most steps of a run should stay under."""
OVERFIT, SEVERE_OVERFIT = 0.05, 0.10
"""By how much of the best the last validation loss lies above it."""
GAP = 1.5
"""Validation over training loss."""
STILL_FALLING, WINDOW = 0.05, 10
"""Nats that the training loss falls over the last points, and how few they may be."""
PACE = 0.5
"""Share of the run's mean pace at which a loss that still falls has not slowed down."""
FLAT, SURE = 0.01, 2.0
"""Share of the loss that counts as no gain; standard errors that make a fall more than chance."""
BARELY = 0.05
"""Share of the first loss that a run should gain."""
IDLE = 0.1
"""Share of the run for which a learning rate of 0 is more than the schedule's end."""


def not_a_number(log: RunLog) -> Seen:
    """Find numbers that are none."""
    for what, curve in (("training loss", log.train), ("validation loss", log.evaluations)):
        if curve.lost:
            return "severe", f"the {what} is no number at step {curve.lost[0]:g}"
    # one that is skipped by float16's loss scaler comes alone
    if len(log.norms.lost) > 1 and log.norms.lost[-1] == log.norms.steps[-1]:
        count = len(log.norms.lost)
        return (
            "severe",
            f"the gradient norm is no number at {count} of {len(log.norms)} steps, the last included",
        )
    return None


def no_signal(log: RunLog) -> Seen:
    """Find a loss or gradients of exactly 0 in the whole second half."""
    for what, curve in (("training loss", log.train), ("gradient norm", log.norms)):
        later = curve.values[len(curve) // 2 :]
        if len(later) >= FEWEST_POINTS and not any(later):
            return "severe", f"the {what} is 0 at all of the last {len(later)} logged steps"
    return None


def diverged(log: RunLog) -> Seen:
    """Find a training loss that ended above its beginning."""
    values = log.train.values
    if len(values) < 2 * ENDS:
        return None
    first, last = statistics.median(values[:ENDS]), statistics.median(values[-ENDS:])
    if last <= DIVERGED * first:
        return None
    return (
        "severe",
        f"the training loss ends at {last:.3g}, {last / first:.1f} times the {first:.3g} of its beginning",
    )


def rough_start(log: RunLog) -> Seen:
    """Find swings at the beginning."""
    values = log.train.values
    early = values[: round(ROUGH_SHARE * len(values))]
    if len(early) < FEWEST_POINTS + 1:
        return None
    first = statistics.median(early[:FEWEST_POINTS])
    high = [value for value in early[1:] if value > ROUGH_RISE * first]
    if len(high) < SPIKES:
        return None
    return (
        "warning",
        f"in the first fifth {len(high)} training losses rise from {first:.3g}, up to {max(high):.3g}",
    )


def spikes(log: RunLog) -> Seen:
    """Find single losses that leap up after the start."""
    values, steps = log.train.values, log.train.steps
    places = [
        place
        for place in range(max(BEFORE_SPIKE, round(ROUGH_SHARE * len(values))), len(values))
        if values[place] > SPIKE * statistics.median(values[place - BEFORE_SPIKE : place])
    ]
    if len(places) < SPIKES:
        return None
    where = ", ".join(f"{steps[place]:g}" for place in places[:3]) + (", ..." if len(places) > 3 else "")
    return "warning", f"{len(places)} training losses are {SPIKE:g} times what came before or more, at steps {where}"


def unstable(log: RunLog) -> Seen:
    """Find scatter around the trend of the last losses."""
    values = log.train.values[-LAST:]
    if len(values) < LAST:
        return None
    trend = Trend.of(values)
    if trend.level <= 0 or trend.scatter <= UNSTABLE * trend.level:
        return None
    share = trend.scatter / trend.level
    return "warning", f"the last {LAST} training losses vary by {share:.0%} around their trend; {UNSTABLE:.0%} is usual"


def large_norms(log: RunLog) -> Seen:
    """Find gradients that are large for most of the second half."""
    values = log.norms.finite.values
    later = values[len(values) // 2 :]
    if len(later) < FEWEST_POINTS or statistics.median(later) <= LARGEST_NORM:
        return None
    middle = statistics.median(later)
    return (
        "warning",
        f"the median gradient norm of the second half is {middle:.3g}; under {LARGEST_NORM:g} is usual",
    )


def overfit(log: RunLog) -> Seen:
    """Find a validation loss that rose from its best."""
    values, steps = log.evaluations.values, log.evaluations.steps
    if len(values) < FEWEST_POINTS:
        return None
    best = min(values)
    share = values[-1] / best - 1 if best > 0 else 0.0
    if share <= OVERFIT:
        return None
    level: Level = "severe" if share > SEVERE_OVERFIT else "warning"
    where = steps[values.index(best)]
    return level, (
        f"the validation loss ends at {values[-1]:.4g}, {share:.1%} above its best, {best:.4g} at step {where:g} of "
        f"{steps[-1]:g}"
    )


def gap(log: RunLog) -> Seen:
    """Find a validation loss far above the training loss."""
    if not log.evaluations.values or len(log.train) < FEWEST_POINTS:
        return None
    train, held_out = statistics.fmean(log.train.values[-ENDS:]), log.evaluations.values[-1]
    if train <= 0 or held_out <= GAP * train:
        return None
    times = held_out / train
    return (
        "warning",
        f"the validation loss, {held_out:.3g}, is {times:.2g} times the training loss, {train:.3g}",
    )


def underfit(log: RunLog) -> Seen:
    """Find a training loss that still fell at the end."""
    values, held_out = log.train.values, log.evaluations.values
    if len(values) < WINDOW or (len(held_out) > 1 and held_out[-1] > min(held_out)):
        return None
    count = max(WINDOW, len(values) // 5)
    trend = Trend.of(values[-count:])
    if trend.fall <= STILL_FALLING or trend.fall <= SURE * trend.error:
        return None
    gained = statistics.fmean(values[:FEWEST_POINTS]) - statistics.fmean(values[-FEWEST_POINTS:])
    if trend.fall * len(values) < PACE * gained * count:
        return None
    return "warning", f"the training loss still falls by {trend.fall:.2g} nats over its last {count} points"


def barely_improved(log: RunLog) -> Seen:
    """Find losses that gained next to nothing."""
    said = []
    for what, values in (("training", log.train.values), ("validation", log.evaluations.values)):
        if len(values) < FEWEST_POINTS:
            continue
        ends = min(ENDS, len(values) // 3)
        first, best = statistics.fmean(values[:ends]), statistics.fmean(sorted(values)[:ends])
        last = statistics.fmean(values[-ends:])
        # of noisy losses the lowest lie low by chance alone
        gain = 1 - (last if what == "training" else best) / first if first > 0 else 1.0
        if gain >= BARELY:
            return None
        said.append(f"{what} loss by {gain:.1%}")
    return ("warning", f"the run improved the {' and the '.join(said)}") if said else None


def plateau(log: RunLog) -> Seen:
    """Find a loss that stood still for half of the run."""
    curves = (("validation", log.evaluations), ("training", log.train))
    what, curve = next(((w, c) for w, c in curves if len(c) >= 2 * WINDOW), ("", Curve()))
    if not what:
        return None
    trend = Trend.of(curve.values[len(curve) // 2 :])
    if trend.level <= 0 or abs(trend.fall) + trend.error > FLAT * trend.level:
        return None
    return "note", f"the {what} loss fell by {trend.fall / trend.level:.2%} over the second half of the run"


def schedule_over(log: RunLog) -> Seen:
    """Find a learning rate that reached 0 long before the end."""
    values, steps = log.rates.values, log.rates.steps
    moved = [place for place, value in enumerate(values) if value > 0]
    if len(values) < FEWEST_POINTS:
        return None
    last = moved[-1] + 1 if moved else 0
    idle = len(values) - last
    if idle < 2 or idle <= IDLE * len(values):
        return None
    return "warning", f"the learning rate is 0 from step {steps[last]:g} on, for {idle / len(values):.0%} of the run"
