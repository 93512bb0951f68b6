"""From coarse to fine: the space around the best configurations so far, which are the first to be run in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpo_service.domain.decide.planning.plan import Plan, Results
from hpo_service.domain.decide.selection import choose_top
from hpo_service.domain.decide.transfer.row_share import for_all_rows
from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
    canonical_key,
)
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.planned import PlannedTrial

MARGIN = 0.125
"""Share of a parameter's whole range that the fine space reaches beyond the best configurations, on either side."""
BEST = 3
"""Configurations around which the fine space lies."""


def plan_narrowed(rule: StageRule, spec: StudySpec, before: Results) -> Plan | None:
    """Search around the best configurations, which are run first, on all rows and with the learning rate for as many.

    Returns:
        The plan, or None where no trial of the stage before ran to the end.
    """
    space = spec.space.resolve()
    choice = choose_top(before.measured, min(BEST, rule.trials(spec)), spec.search.direction, space)
    if not choice.chosen:
        return None
    carried = {m.number: for_all_rows(spec, m.parameters, m.share) for m in choice.chosen}
    searched = "learning_rate" in space.parameters
    found = [
        parameters if searched else choice.chosen[i].parameters for i, (parameters, _) in enumerate(carried.values())
    ]
    narrow = narrowed(space, found)
    trials: dict[str, PlannedTrial] = {}
    for origin, parameters in zip(choice.chosen, found, strict=True):
        key = canonical_key(parameters)
        planned = PlannedTrial(
            role="search",
            parameters=parameters,
            seed=spec.search.seed,
            label=f"{before.stage} #{origin.number}",
            reason=carried[origin.number][1] if searched else "the configuration itself, on all rows",
            origin_id=origin.trial_id,
            dedupe_key=key,
        )
        trials.setdefault(key, planned)
    return Plan(list(trials.values()), choice, narrow)


def narrowed(space: SearchSpace, found: Sequence[dict[str, ParameterValue]]) -> SearchSpace:
    """Return the space around configurations; choices stay as they are, and so does what none of them has."""
    parameters = {}
    for name, parameter in space.parameters.items():
        values = [float(each[name]) for each in found if name in each and not isinstance(each[name], str)]
        parameters[name] = _narrowed(parameter, values) if values else parameter
    return SearchSpace(parameters=parameters)


def _narrowed(parameter: Parameter, values: Sequence[float]) -> Parameter:
    if isinstance(parameter, CategoricalParameter):
        return parameter
    low, high = _around(values, parameter.low, parameter.high, log=parameter.log)
    if isinstance(parameter, FloatParameter):
        if parameter.step is None:
            return parameter.model_copy(update={"low": low, "high": high})
        down, up = (
            math.floor((low - parameter.low) / parameter.step),
            math.ceil((high - parameter.low) / parameter.step),
        )
        ends = (parameter.low + down * parameter.step, min(parameter.high, parameter.low + up * parameter.step))
        return parameter.model_copy(update={"low": ends[0], "high": ends[1]})
    return _whole(parameter, low, high)


def _whole(parameter: IntParameter, low: float, high: float) -> Parameter:
    step = parameter.step or 1
    down, up = math.floor((low - parameter.low) / step), math.ceil((high - parameter.low) / step)
    ends = (parameter.low + down * step, min(parameter.high, parameter.low + up * step))
    return parameter.model_copy(update={"low": ends[0], "high": ends[1]})


def _around(values: Sequence[float], low: float, high: float, *, log: bool) -> tuple[float, float]:
    """Return the range of values and a margin on both sides, within the old range but never without a value."""
    lowest, highest = min(values), max(values)
    if log:
        beyond = (high / low) ** MARGIN
        return min(lowest, max(low, lowest / beyond)), max(highest, min(high, highest * beyond))
    margin = MARGIN * (high - low)
    return min(lowest, max(low, lowest - margin)), max(highest, min(high, highest + margin))
