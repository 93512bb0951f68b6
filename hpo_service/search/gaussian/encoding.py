"""Configurations as rows of numbers between 0 and 1, in which distance means unlikeness."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hpo_service.domain.study.search_space import CategoricalParameter, Parameter, ParameterValue, SearchSpace

Rows = NDArray[np.float64]

ABSENT = 0.5
"""Place of a parameter whose condition does not hold: the middle, so that what applies decides on the distance."""


class Encoding:
    """Turns configurations of a space into rows.

    A number becomes its place in its range, in the logarithm where it is sampled so. Choices that are all numbers, as
    ranks are, stand evenly spaced in their order. Other choices get a column each, so that any two are 1 apart.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._parameters = {name: parameter for name, parameter in space.parameters.items() if _varies(parameter)}

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """For each column the number of the parameter that it belongs to."""
        widths = [len(_columns(parameter, None)) for parameter in self._parameters.values()]
        return np.repeat(np.arange(len(widths)), widths)

    @property
    def parameters(self) -> int:
        """How many parameters can vary."""
        return len(self._parameters)

    def rows(self, configurations: Iterable[Mapping[str, ParameterValue]]) -> Rows:
        """Return configurations as an array, n x columns."""
        listed = [
            [each for name, parameter in self._parameters.items() for each in _columns(parameter, given.get(name))]
            for given in configurations
        ]
        return np.array(listed, dtype=float).reshape(len(listed), len(self.owners))


def _varies(parameter: Parameter) -> bool:
    if isinstance(parameter, CategoricalParameter):
        return len(parameter.choices) > 1
    return parameter.low < parameter.high


def _columns(parameter: Parameter, value: ParameterValue | None) -> list[float]:
    if isinstance(parameter, CategoricalParameter):
        return _of_choice(parameter.choices, value)
    if value is None:
        return [ABSENT]
    assert not isinstance(value, str), "numbers have numbers as values"
    low, high, place = float(parameter.low), float(parameter.high), float(value)
    if parameter.log:
        low, high, place = math.log(low), math.log(high), math.log(place)
    return [(place - low) / (high - low)]


def _of_choice(choices: list[ParameterValue], value: ParameterValue | None) -> list[float]:
    if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
        return [ABSENT if value is None else sorted(choices).index(value) / (len(choices) - 1)]
    apart = 1 / math.sqrt(2)
    return [
        apart if value == choice and isinstance(value, bool) == isinstance(choice, bool) else 0.0 for choice in choices
    ]
