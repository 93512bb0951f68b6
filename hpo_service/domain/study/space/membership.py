"""Whether a value lies in a parameter's range, why not, and which value of the range is nearest to it."""

from __future__ import annotations

import math

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    value_at,
    value_count,
)

ON_GRID = 1e-9
"""Steps by which a value may miss a grid point that was written in decimals."""


def misfit(parameter: Parameter, value: ParameterValue) -> str:
    """Say why a value is none of the parameter's, as the end of a sentence; nothing where it is one."""
    if isinstance(parameter, CategoricalParameter):
        known = any(_same(value, choice) for choice in parameter.choices)
        return "" if known else f"is none of its choices: {', '.join(map(str, parameter.choices))}"
    if isinstance(value, bool | str):
        return f"is no number from {parameter.low:g} to {parameter.high:g}"
    if beyond(parameter, value):
        return f"lies outside of its range, {parameter.low:g} to {parameter.high:g}"
    if isinstance(parameter, IntParameter) and value != int(value):
        return "is no whole number"
    steps = (value - parameter.low) / (parameter.step or 1)
    if parameter.step is not None and abs(steps - round(steps)) > ON_GRID * max(1.0, steps):
        return f"is not on its grid, every {parameter.step:g} from {parameter.low:g}"
    return ""


def beyond(parameter: Parameter, value: ParameterValue) -> bool:
    """Whether a number lies below or above a parameter's range."""
    if isinstance(parameter, CategoricalParameter) or isinstance(value, bool | str):
        return False
    return not parameter.low <= value <= parameter.high


def nearest_value(parameter: Parameter, value: ParameterValue) -> ParameterValue:
    """Return the parameter's value that is nearest to the given one, which itself where it is one of them.

    Among choices that are numbers nearest means by their ratio where all are above 0, as ranks are; where nothing can
    be compared it is the first choice, or the lower end of the range.
    """
    if isinstance(parameter, CategoricalParameter):
        return _nearest_choice(parameter.choices, value)
    if isinstance(value, bool | str):
        return parameter.low
    inside = min(max(value, parameter.low), parameter.high)
    count = value_count(parameter)
    if count is not None and not parameter.log:
        step = parameter.step or 1
        return value_at(parameter, min(round((inside - parameter.low) / step), count - 1))
    return round(inside) if isinstance(parameter, IntParameter) else float(inside)


def middle_value(parameter: FloatParameter | IntParameter | CategoricalParameter) -> ParameterValue:
    """Return the middle of the range, in the logarithm where it asks for that; of choices the first."""
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices[0]
    if parameter.log:
        return nearest_value(parameter, math.sqrt(parameter.low) * math.sqrt(parameter.high))
    return nearest_value(parameter, parameter.low + (parameter.high - parameter.low) / 2)


def _nearest_choice(choices: list[ParameterValue], value: ParameterValue) -> ParameterValue:
    for choice in choices:
        if _same(choice, value):
            return choice
    numbers = [choice for choice in choices if isinstance(choice, int | float) and not isinstance(choice, bool)]
    if isinstance(value, bool | str) or not numbers:
        return choices[0]
    wanted = value
    if min(*numbers, wanted) > 0:
        return min(numbers, key=lambda choice: abs(math.log(choice / wanted)))
    return min(numbers, key=lambda choice: abs(choice - wanted))


def _same(one: ParameterValue, other: ParameterValue) -> bool:
    """Whether two values are one; True is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
