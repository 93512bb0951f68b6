"""Which parameters told good configurations from the others: PED-ANOVA over what a search measured."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import create_trial

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import ParameterValue, SearchSpace
from hpo_service.search.distributions import distribution_of, holds
from hpo_service.search.logs import leave_logging_to_the_application

GOOD = 0.25
"""The share of configurations that counts as good: a tenth of twenty would be two."""

leave_logging_to_the_application()


def importances(
    space: SearchSpace, direction: Direction, measured: Sequence[tuple[Mapping[str, ParameterValue], float]]
) -> dict[str, float]:
    """Return each parameter's share of what tells the best quarter from all, largest first; the shares sum to 1.

    PED-ANOVA (Watanabe et al., 2023): how far the distribution of a parameter among the best quarter is from its
    distribution among all. Parameters that do not always apply are looked at among the trials that have them, by
    themselves, and weigh as much as those trials are of all.

    Args:
        space: what was searched.
        direction: which values are better.
        measured: configurations that ran to their end, with their values.
    """
    domain = {name: distribution_of(parameter) for name, parameter in space.parameters.items()}
    found: dict[str, float] = {}
    groups: dict[str, list[str]] = {}
    for name, distribution in domain.items():
        if not distribution.single():
            # those of other conditions never stand beside each other
            groups.setdefault(repr(sorted(space.parameters[name].when.items())), []).append(name)
    for names in groups.values():
        having = [
            (parameters, value)
            for parameters, value in measured
            if all(name in parameters and holds(domain[name], parameters[name]) for name in names)
        ]
        if len(having) < 1 / GOOD or len({value for _, value in having}) < 2:
            continue
        study = optuna.create_study(direction=StudyDirection[direction.upper()])
        known = {name: domain[name] for name in names}
        for parameters, value in having:
            some = {name: parameters[name] for name in names}
            study.add_trial(create_trial(params=some, distributions=known, value=value))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told = PedAnovaImportanceEvaluator(target_quantile=GOOD).evaluate(study)
        found |= {name: told[name] * len(having) / len(measured) for name in names}
    whole = sum(found.values())
    if whole <= 0:
        return {}
    return dict(sorted(((name, value / whole) for name, value in found.items()), key=lambda pair: -pair[1]))
