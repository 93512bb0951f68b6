"""What a search has found after 10, 15 and 20 trials: the product's default beside Optuna's own TPE and random search.

    python benchmarks/search.py
    python benchmarks/search.py --seeds 30 --json

Six synthetic spaces of six parameters (`benchmarks/searching/problems.py` says where each has its shape from), whose
best point is drawn anew for each seed, and the quickstart's search: a few hundred of its trials were trained once
(`benchmarks/searching/measure.py`), and a smooth function through their losses stands for training. Everybody gets the
same draws. The product is `SearchPolicy` with the study file's defaults: the default configuration first
(where the space holds it), then start-up points, then its sampler; the others are `TPESampler()` and `RandomSampler()`
as Optuna has them. What counts is the true loss of the trial that measured best.

`--check` fails where the product's median is behind either of them after 10, 15 or 20 trials and the difference over
seeds is no chance (Wilcoxon's signed ranks, one-sided, 1%), or where over all spaces together it is not ahead of both
at 10.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, create_trial

from benchmarks.searching.problems import BEST, PROBLEMS, Configuration, Loss, Problem
from benchmarks.searching.quickstart import quickstart
from hpo_service.domain.decide.start.beginning import Beginning
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.search.distributions import distribution_of
from hpo_service.search.policy import SearchPolicy

AFTER = (10, 15, 20)
CHANCE = 0.01
OURS = "hpo_service"
Searched = Callable[[Problem, Loss, int], list[dict[str, ParameterValue]]]


class InMemory(SearchPolicy):
    """The product's policy over a list of trials instead of a database."""

    def __init__(self) -> None:
        self.known: list[FrozenTrial] = []

    def trials(self, name: str, at_least: int = 0) -> list[FrozenTrial]:
        """Return what was measured so far."""
        del name, at_least
        return self.known


def ours(sampler: str | None = None, startup: int | None = None) -> Searched:
    """Search as a worker does, one trial after another; by default with the study file's own settings."""
    given = {"sampler": sampler, "startup_trials": startup}

    def searched(problem: Problem, measure: Loss, seed: int) -> list[dict[str, ParameterValue]]:
        settings = {name: value for name, value in given.items() if value is not None}
        policy, search = InMemory(), SearchSpec.model_validate({"seed": seed, **settings})
        first = [Beginning("default", dict(problem.default))] if problem.default else []
        taken = set[str]()
        for draw in range(AFTER[-1]):
            found = policy.suggest("", search, problem.space, taken.__contains__, draw, first)
            assert found is not None
            taken.add(found.key)
            distributions = {name: distribution_of(problem.space.parameters[name]) for name in found.parameters}
            value = measure(found.parameters)
            policy.known.append(create_trial(params=found.parameters, distributions=distributions, value=value))
        return [dict(trial.params) for trial in policy.known]

    return searched


def plain(made: Callable[[int], optuna.samplers.BaseSampler]) -> Searched:
    """Search as Optuna does by itself."""

    def searched(problem: Problem, measure: Loss, seed: int) -> list[dict[str, ParameterValue]]:
        study, tried = optuna.create_study(sampler=made(seed)), list[dict[str, ParameterValue]]()
        for _ in range(AFTER[-1]):
            trial, chosen = study.ask(), dict[str, ParameterValue]()
            for name, parameter in problem.space.active(chosen):
                chosen[name] = trial._suggest(name, distribution_of(parameter))
            study.tell(trial, measure(chosen))
            tried.append(chosen)
        return tried

    return searched


SEARCHES: dict[str, Searched] = {
    OURS: ours(),
    "optuna tpe": plain(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "random": plain(lambda seed: optuna.samplers.RandomSampler(seed=seed)),
}


@dataclass(frozen=True)
class Row:
    """What one search found in one space: by number of trials what it lost beyond the best, a value for each seed."""

    space: str
    search: str
    lost: dict[int, list[float]]

    def line(self) -> str:
        """Medians and worst, for a table."""
        medians = "".join(f"{statistics.median(self.lost[after]):10.4f}" for after in AFTER)
        worst = "".join(f"{max(self.lost[after]):10.4f}" for after in AFTER)
        return f"{self.space:14}{self.search:14}{medians}{worst}"


def measured(problem: Problem, name: str, searched: Searched, seeds: int) -> Row:
    """Let one search work through one space, once for each seed."""
    lost: dict[int, list[float]] = {after: [] for after in AFTER}
    for seed in range(seeds):
        loss, noise = problem.made(np.random.default_rng([1, seed])), np.random.default_rng([2, seed])
        values: list[float] = []

        def measure(configuration: Configuration, loss: Loss = loss, into: list[float] = values) -> float:
            into.append(loss(configuration) + problem.noise * float(noise.standard_normal()))  # noqa: B023
            return into[-1]

        tried = searched(problem, measure, seed)
        for after in AFTER:
            lost[after].append(loss(tried[int(np.argmin(values[:after]))]) - BEST)
    return Row(problem.name, name, lost)


def behind(ours: Row, other: Row) -> list[str]:
    """Say after how many trials ours is behind, in the median and beyond chance."""
    said = []
    for after in AFTER:
        mine, theirs = statistics.median(ours.lost[after]), statistics.median(other.lost[after])
        if mine > theirs and _chance(ours.lost[after], other.lost[after]) < CHANCE:
            said.append(f"{ours.space}: after {after} trials {mine:.4f}, {other.search} {theirs:.4f}")
    return said


def _chance(more: Sequence[float], less: Sequence[float]) -> float:
    """How likely pairs like these are where neither side is larger."""
    from scipy.stats import wilcoxon

    differences: NDArray[np.float64] = np.subtract(more, less)
    return float(wilcoxon(differences, alternative="greater").pvalue) if differences.any() else 1.0


def failures(rows: Sequence[Row]) -> list[str]:
    """Say what is not as asked for."""
    said: list[str] = []
    mine = {row.space: row for row in rows if row.search == OURS}
    for name in SEARCHES.keys() - {OURS}:
        others = {row.space: row for row in rows if row.search == name}
        said += [one for space, row in mine.items() for one in behind(row, others[space])]
        # in units of what the other lost in the median, so that each space counts the same
        units = {space: statistics.median(row.lost[AFTER[0]]) or 1.0 for space, row in others.items()}
        pairs = [
            (a / abs(units[space]), b / abs(units[space]))
            for space, row in mine.items()
            for a, b in zip(row.lost[AFTER[0]], others[space].lost[AFTER[0]], strict=True)
        ]
        chance = _chance([theirs for _, theirs in pairs], [own for own, _ in pairs])
        if chance >= CHANCE:
            said.append(f"over all spaces not ahead of {name} after {AFTER[0]} trials (p = {chance:.2f})")
    return said


def main(arguments: list[str]) -> int:
    """Search, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--only", nargs="+", help="names of spaces")
    parser.add_argument("--also", nargs="+", default=[], help="samplers of the product besides its default")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 where the product is behind, or not ahead at 10")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    searches = {**SEARCHES, **{f"our {name}": ours(name) for name in options.also}}
    if not options.json:
        print(f"lost beyond the best; medians and worst of {options.seeds} seeds")
        print(f"{'space':14}{'search':14}" + "".join(f"{f'at {a}':>10}" for a in AFTER) * 2)
    rows = []
    for problem in (*PROBLEMS, quickstart()):
        for name, searched in searches.items():
            if options.only is None or problem.name in options.only:
                rows.append(measured(problem, name, searched, options.seeds))
                if not options.json:
                    print(rows[-1].line(), flush=True)
    said = failures(rows)
    if options.json:
        print(json.dumps({"rows": [vars(row) for row in rows], "failures": said}, indent=2))
    elif said:
        print("\n".join(said))
    return int(options.check and bool(said))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
