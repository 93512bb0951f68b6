"""What is replayed: samplers, pruners and budgets, the product's default first, beside what Optuna would do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna

from benchmarks.replaying.curves import Problem
from benchmarks.replaying.race import Judge, Ours, Replay, Theirs, replay
from hpo_service.domain.study.sections.search import SearchSpec

HALF = 0.5
DEFAULT = "default"


@dataclass(frozen=True)
class Policy:
    """A way to search.

    Attributes:
        share: of the configurations, how many are tried; None is what the command line says, half of them by default.
        search: keys of the study file's `search`, besides the seed and the direction.
        theirs: makes one of Optuna's pruners; by default the product's own judges.
    """

    share: float | None = None
    search: Mapping[str, Any] = field(default_factory=dict)
    theirs: Callable[[], optuna.pruners.BasePruner] | None = None

    def once(self, problem: Problem, seed: int, parallel: int, budget: float = HALF) -> Replay:
        """Replay one search; the budget is the share of configurations tried by policies that name none."""
        share = budget if self.share is None else self.share
        search = SearchSpec.model_validate({**self.search, "seed": seed, "direction": problem.direction.value})
        judge: Judge = Ours(search) if self.theirs is None else Theirs(self.theirs(), search)
        return replay(problem, search, math.ceil(share * len(problem.configurations)), judge, parallel)


POLICIES: dict[str, Policy] = {
    DEFAULT: Policy(),
    "no pruning": Policy(search={"pruner": "none"}),
    "random search": Policy(search={"pruner": "none", "sampler": "random"}),
    "halving": Policy(search={"pruner": "halving"}),
    "halving, all": Policy(share=1.0, search={"pruner": "halving"}),
    "Optuna's median": Policy(theirs=optuna.pruners.MedianPruner),
    "Optuna's hyperband": Policy(theirs=optuna.pruners.HyperbandPruner),
    "Optuna's successive halving": Policy(theirs=optuna.pruners.SuccessiveHalvingPruner),
}
"""What is compared, by name; the product's sampler and half of the configurations where nothing else is said."""

OTHERS: dict[str, Policy] = {
    "early exit, all": Policy(share=1.0, search={"pruner": "early_exit"}),
    "early exit, random": Policy(search={"pruner": "early_exit", "sampler": "random"}),
    "halving, random": Policy(search={"pruner": "halving", "sampler": "random"}),
    "percentile": Policy(search={"pruner": "percentile"}),
    "median": Policy(search={"pruner": "median"}),
    "successive halving": Policy(search={"pruner": "successive_halving"}),
    "hyperband": Policy(search={"pruner": "hyperband"}),
    "patient": Policy(search={"pruner": "patient"}),
}
"""Other rows of the product's own tables; `--policy` names them."""


@dataclass(frozen=True)
class Figures:
    """What a policy did to a table: means over its searches and seeds.

    Attributes:
        table: which.
        policy: by name.
        parallel: trials side by side.
        replays: how many.
        compute: share of the evaluations of running every configuration.
        regret: percent of the best value that the chosen configuration is worse.
        worst: the same, at most.
        lost: share of the replays in which the best of those tried was stopped.
    """

    table: str
    policy: str
    parallel: int
    replays: int
    compute: float
    regret: float
    worst: float
    lost: float


def figures(table: str, problems: Sequence[Problem], policy: str, seeds: int, parallel: int, budget: float) -> Figures:
    """Replay a policy on every search of a table with so many seeds."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    one = {**POLICIES, **OTHERS}[policy]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = [one.once(problem, seed, parallel, budget) for problem in problems for seed in range(seeds)]
    regrets = [each.regret for each in found]
    return Figures(
        table,
        policy,
        parallel,
        len(found),
        compute=float(np.mean([each.compute for each in found])),
        regret=float(np.mean(regrets)),
        worst=max(regrets),
        lost=float(np.mean([each.lost for each in found])),
    )
