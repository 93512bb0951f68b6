"""How often a healthy run would be ended as diverged, and how soon one that blows up is: simulated training losses.

    python benchmarks/divergence.py             # 10,000 runs of 300 steps for each kind of row
    python benchmarks/divergence.py --check     # exit 1 where healthy runs are ended too often

A step's loss is the mean of its rows' losses, which are drawn anew: single rows are the noisiest that there is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hpo_service.training.run.divergence import FIRST_STEPS, LAST_STEPS, LEAST_LEVEL, RULES, blown_up

Losses = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...], float], Losses]

LIMIT = 0.001
MEAN = 2.0


def _lognormal(draw: np.random.Generator, shape: tuple[int, ...], cv: float) -> Losses:
    sigma = np.sqrt(np.log1p(cv**2))
    return draw.lognormal(-(sigma**2) / 2, sigma, shape)


def _gamma(draw: np.random.Generator, shape: tuple[int, ...], cv: float) -> Losses:
    return draw.gamma(1 / cv**2, cv**2, shape)


def _some_hard(draw: np.random.Generator, shape: tuple[int, ...], cv: float, share: float = 0.15) -> Losses:
    """Rows of two kinds, easy ones and a share of hard ones."""
    apart = cv / (np.sqrt(share * (1 - share)) - cv * share)
    hard = draw.random(shape) < share
    return np.asarray((1 + apart * hard) * draw.lognormal(0, 0.05, shape) / (1 + apart * share))


KINDS: dict[str, Draw] = {"lognormal": _lognormal, "gamma": _gamma, "some hard rows": _some_hard}
"""Distributions of row losses of mean 1 with a coefficient of variation."""


def healthy(kind: str, runs: int, steps: int, cv: float, batch: int = 1, fall: float = 0.0, seed: int = 0) -> Losses:
    """Training losses [runs, steps] that do not rise; by the last step they have fallen by the share `fall`."""
    draw = np.random.default_rng(seed)
    rows = KINDS[kind](draw, (runs, steps, batch), cv)
    return np.asarray(MEAN * rows.mean(axis=2) * np.linspace(1.0, 1.0 - fall, steps))


def ended(losses: Losses) -> npt.NDArray[np.int64]:
    """The step [runs] after which each run is ended as diverged, 0 where it is not.

    Only where half of a window is above a rule's limit, all runs at once, is the rule itself asked.
    """
    found = np.zeros(len(losses), dtype=np.int64)
    for run, step in zip(*np.nonzero(_above(losses)), strict=True):
        if not found[run]:
            done = int(step) + 1
            first, last = losses[run, : min(done, FIRST_STEPS)], losses[run, max(0, done - LAST_STEPS) : done]
            found[run] = done if blown_up(first.tolist(), last.tolist(), done) else 0
    return found


def _above(losses: Losses) -> npt.NDArray[np.bool_]:
    """Which windows have half of their steps or more above a rule's limit, by the step [runs, steps] they end at."""
    runs, steps = losses.shape
    above = np.zeros((runs, steps), dtype=np.bool_)
    levels = [np.median(losses[:, :count], axis=1) for count in range(1, min(FIRST_STEPS, steps) + 1)]
    for rule in RULES:
        for end in range(rule.window + 1, steps + 1):
            level = np.maximum(levels[min(end - rule.window, FIRST_STEPS) - 1], LEAST_LEVEL)
            high = losses[:, end - rule.window : end] > rule.times * level[:, None]
            above[:, end - 1] |= high.sum(axis=1) >= (rule.window + 1) // 2
    return above


def false_alarms(kind: str, runs: int, steps: int, cv: float, batch: int = 1, fall: float = 0.0) -> float:
    """Share of healthy runs that are ended."""
    return float((ended(healthy(kind, runs, steps, cv, batch, fall)) > 0).mean())


def delays(kind: str, runs: int, cv: float, batch: int, times: float, begin: int = 40) -> npt.NDArray[np.int64]:
    """Steps [runs] from a rise of the loss to so many times what it was until it is seen; 100 where it is not."""
    losses = healthy(kind, runs, begin + 100, cv, batch)
    losses[:, begin:] *= times
    found = ended(losses)
    return np.where(found > begin, found - begin, 100)


def main(arguments: list[str]) -> int:
    """Print both for every kind of row; return 1 where healthy runs are ended too often, as `--check` says anyway."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=10_000)
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--check", action="store_true", help="what is done anyway")
    given = options.parse_args(arguments)
    worst = 0.0
    for kind in KINDS:
        for cv, batch, fall in ((1.2, 1, 0.0), (1.2, 1, 0.5), (1.2, 4, 0.0), (0.6, 1, 0.0)):
            share = false_alarms(kind, given.runs, given.steps, cv, batch, fall)
            worst = max(worst, share)
            print(f"{kind}, CV {cv}, batch {batch}, falling by {fall:.0%}: {share:.3%} ended as diverged")
        for times, batch in ((4.0, 1), (10.0, 1), (4.0, 16), (10.0, 16)):
            steps = np.median(delays(kind, 300, 1.2, batch, times))
            print(f"{kind}, CV 1.2, batch {batch}: {times:g} times the level is seen after {steps:g} steps")
    return int(worst >= LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
