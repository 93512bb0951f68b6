"""Who proposes configurations: a table of samplers, each a stream of candidates, best first."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo_service.domain.study.search_space import ParameterValue, SearchSpace, value_at
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.search.distributions import distribution_of, holds
from hpo_service.search.grid import distinct, on_grid, shuffled
from hpo_service.search.quasirandom import halton
from hpo_service.search.view import view_of

if TYPE_CHECKING:
    from hpo_service.search.gaussian.improvement import Promise

Configuration = dict[str, ParameterValue]


@dataclass(frozen=True)
class Question:
    """What a sampler is asked: propose trial number `draw` of this space, knowing these trials."""

    search: SearchSpec
    space: SearchSpace
    draw: int
    trials: Sequence[FrozenTrial] = field(default_factory=tuple)

    @property
    def ended(self) -> int:
        """How many of the trials have ended so that a sampler can learn from them."""
        return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in self.trials)

    def seed(self, attempt: int) -> int:
        """Mix the study's seed with the draw and the attempt: a restarted worker goes on, it does not repeat."""
        return int(np.random.SeedSequence([self.search.seed, self.draw, attempt]).generate_state(1)[0])


@dataclass(frozen=True)
class Sampler:
    """A named sampler.

    Attributes:
        candidates: proposals for one trial, in order of preference.
        learns: whether it looks at earlier trials.
        complete: whether its stream ends only after every configuration of the space.
        reason: when to choose it, and its source.
    """

    candidates: Callable[[Question], Iterator[Configuration]]
    learns: bool
    complete: bool
    reason: str


def _tpe(question: Question) -> Iterator[Configuration]:
    conditional = any(parameter.when for parameter in question.space.parameters.values())

    def made(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # group is one
            return optuna.samplers.TPESampler(
                n_startup_trials=question.search.startup_trials,
                multivariate=True,
                group=conditional,
                constant_liar=True,
                seed=seed,
            )

    return _drawn(question, made)


def promise_of(question: Question) -> Promise | None:
    """Rank configurations by what they are expected to improve; None where nothing was measured."""
    from hpo_service.search.gaussian.improvement import promise

    domain = {name: distribution_of(parameter) for name, parameter in question.space.parameters.items()}
    usable = [trial for trial in question.trials if _belongs(trial, question.space, domain)]
    search = question.search
    return promise(question.space, search.direction, usable, question.seed(0), len(search.goals))


def _gp(question: Question) -> Iterator[Configuration]:
    found = promise_of(question)
    if found is not None:
        yield from distinct(found.candidates)
    yield from _random(question)


def _cma_es(question: Question) -> Iterator[Configuration]:
    from hpo_service.search.evolution.strategy import generations

    domain = {name: distribution_of(parameter) for name, parameter in question.space.parameters.items()}
    usable = [trial for trial in question.trials if _belongs(trial, question.space, domain)]
    search = question.search
    return generations(
        question.space,
        search.direction,
        usable,
        startup=search.startup_trials,
        seed=search.seed,
        draw=question.seed(0),
    )


def _nsga_ii(question: Question) -> Iterator[Configuration]:
    from hpo_service.search.evolution.generations import NSGA2, in_generations

    search = question.search
    return _drawn(question, NSGA2, lambda trials: in_generations(trials, search.direction, len(search.goals)))


def _random(question: Question) -> Iterator[Configuration]:
    return _drawn(question, lambda seed: optuna.samplers.RandomSampler(seed=seed))


def _grid(question: Question) -> Iterator[Configuration]:
    return shuffled(question.space, seed=question.search.seed, start=question.draw)


def _qmc(question: Question) -> Iterator[Configuration]:
    return halton(question.space, seed=question.search.seed, start=question.draw)


SAMPLERS: dict[str, Sampler] = {
    "gp": Sampler(
        _gp,
        learns=True,
        complete=False,
        reason="models the objective itself and tries where most improvement is expected; ahead from the first trials"
        " on (Jones et al., 1998; benchmarks/search.py)",
    ),
    "tpe": Sampler(
        _tpe,
        learns=True,
        complete=False,
        reason="models where good trials lie, running ones counted as bad; pays off from 15 to 20 trials"
        " (Bergstra et al., 2011; Watanabe, 2023)",
    ),
    "cma-es": Sampler(
        _cma_es,
        learns=True,
        complete=False,
        reason="moves a normal distribution towards what is good, generation by generation; for searches of hundreds of"
        " trials over numbers that depend on each other (Hansen, 2016; Hamano et al., 2024)",
    ),
    "nsga-ii": Sampler(
        _nsga_ii,
        learns=True,
        complete=False,
        reason="crosses what is on the front, generation by generation; for several goals and hundreds of trials"
        " (Deb et al., 2002)",
    ),
    "random": Sampler(
        _random,
        learns=False,
        complete=False,
        reason="as good as anything below about 10 trials, and the baseline (Bergstra and Bengio, 2012)",
    ),
    "grid": Sampler(
        _grid,
        learns=False,
        complete=True,
        reason="every configuration of a finite space once, in a fixed shuffled order",
    ),
    "qmc": Sampler(
        _qmc,
        learns=False,
        complete=False,
        reason="random without its gaps and clumps: a scrambled Halton sequence (Halton, 1960; Owen, 2017)",
    ),
}
"""Samplers by the name they have in the study file."""


def _drawn(
    question: Question,
    made: Callable[[int], BaseSampler],
    seen: Callable[[Sequence[FrozenTrial]], Sequence[FrozenTrial]] = lambda trials: trials,
) -> Iterator[Configuration]:
    """Ask an Optuna sampler again and again, each time with another seed.

    Args:
        question: what is asked.
        made: makes the sampler of a seed.
        seen: how the sampler sees the trials.
    """
    domain = {name: distribution_of(parameter) for name, parameter in question.space.parameters.items()}
    usable = seen([_comparable(trial) for trial in question.trials if _belongs(trial, question.space, domain)])
    study = view_of(usable, question.search.direction, len(question.search.goals))
    for attempt in count():
        yield _draw(question.space, domain, study, made(question.seed(attempt)))


def _belongs(trial: FrozenTrial, space: SearchSpace, domain: Mapping[str, BaseDistribution]) -> bool:
    """Whether the space could have proposed this trial: a planned one outside of it would confuse a sampler."""
    active = [name for name, _ in space.active(trial.params)]
    return trial.params.keys() == set(active) and all(holds(domain[name], trial.params[name]) for name in active)


def _comparable(trial: FrozenTrial) -> FrozenTrial:
    """Hide what a trial that was stopped early reported, where it has no value: it is another measure than values are.

    Samplers that would rank it by its latest report rank it behind all that have one.
    """
    if trial.state is not TrialState.PRUNED or trial.values or not trial.intermediate_values:
        return trial
    hidden = copy(trial)
    hidden.intermediate_values = {}
    return hidden


def _draw(
    space: SearchSpace, domain: Mapping[str, BaseDistribution], study: optuna.Study, sampler: BaseSampler
) -> Configuration:
    """Sample one configuration parameter by parameter, as a trial would, for a trial that does not exist yet."""
    ghost = create_trial(state=TrialState.RUNNING)
    known: Mapping[str, BaseDistribution]
    if any(parameter.when for parameter in space.parameters.values()):
        known = sampler.infer_relative_search_space(study, ghost)
    else:
        # all trials lie in one and the same space: no need to compare them for what they have in common
        known = {name: distribution for name, distribution in domain.items() if not distribution.single()}
    together = sampler.sample_relative(study, ghost, dict(known))
    chosen: Configuration = {}
    for name, parameter in space.active(chosen):
        if domain[name].single():
            chosen[name] = value_at(parameter, 0)
        elif name in together and known[name] == domain[name]:
            chosen[name] = on_grid(parameter, together[name])
        else:
            chosen[name] = on_grid(parameter, sampler.sample_independent(study, ghost, name, domain[name]))
    return chosen
