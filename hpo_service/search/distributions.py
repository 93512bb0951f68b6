"""Our parameters in Optuna's terms."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    ParameterValue,
    SearchSpace,
    value_at,
    value_count,
)


def distribution_of(parameter: FloatParameter | IntParameter | CategoricalParameter) -> BaseDistribution:
    """Return the Optuna distribution of a parameter; bounds that miss the grid are lowered to its last point."""
    if isinstance(parameter, CategoricalParameter):
        return CategoricalDistribution(parameter.choices)
    if isinstance(parameter, IntParameter):
        step = parameter.step or 1
        high = parameter.low + (parameter.high - parameter.low) // step * step
        return IntDistribution(parameter.low, high, log=parameter.log, step=step)
    return FloatDistribution(parameter.low, _last_point(parameter), log=parameter.log, step=parameter.step)


def _last_point(parameter: FloatParameter) -> float:
    """Return the highest grid point, in decimal arithmetic, where 3 x 0.1 is 0.3; Optuna would warn otherwise."""
    count = value_count(parameter)
    return parameter.high if count is None else float(value_at(parameter, count - 1))


def distribution_holding(name: str, value: ParameterValue, space: SearchSpace) -> BaseDistribution:
    """Return the space's distribution of a parameter, or that of the value alone where the space lacks it.

    Planned trials (a default, a carried configuration) may lie outside the space; Optuna keeps them all the same.
    """
    parameter = space.parameters.get(name)
    if parameter is not None:
        distribution = distribution_of(parameter)
        if holds(distribution, value):
            return distribution
    if isinstance(value, bool | str):
        return CategoricalDistribution((value,))
    if isinstance(value, int):
        return IntDistribution(value, value)
    return FloatDistribution(value, value)


def internal_value(distribution: BaseDistribution, value: ParameterValue) -> float:
    """Return the number Optuna stores for a value: the index of a choice, else the value itself."""
    if isinstance(distribution, CategoricalDistribution):
        index = _choice(distribution, value)
        if index is not None:
            return float(index)
    return float(distribution.to_internal_repr(value))


def _choice(distribution: CategoricalDistribution, value: ParameterValue) -> int | None:
    """Find a choice; unlike Optuna's own search this one tells True from 1."""
    for index, choice in enumerate(distribution.choices):
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return index
    return None


def holds(distribution: BaseDistribution, value: ParameterValue) -> bool:
    """Tell whether a value lies within a distribution's bounds or choices; a grid's steps are not looked at."""
    if isinstance(distribution, CategoricalDistribution):
        return _choice(distribution, value) is not None
    if isinstance(value, bool | str) or not isinstance(distribution, IntDistribution | FloatDistribution):
        return False
    if isinstance(distribution, IntDistribution) and value != int(value):
        return False
    return distribution.low <= value <= distribution.high
