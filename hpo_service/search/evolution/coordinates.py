"""Configurations as CatCMA has them: numbers between 0 and 1, and choices as rows with a single True."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
    value_at,
    value_count,
)
from hpo_service.search.quasirandom import value_of

FEW_VALUES = 8
"""Numbers with so few values are choices: rounded to them, a narrow normal distribution would never leave one."""
FEWEST_NUMBERS = 2
FEWEST_CHOICES = 1
"""What CatCMA needs; coordinates of no parameter make up for what a space lacks."""

Numbers = NDArray[np.float64]
Choices = NDArray[np.bool_]
Point = tuple[Numbers, Choices]
"""Places in the numbers' ranges, and for each choice a row as wide as the widest, with what is chosen True."""


class Coordinates:
    """Turns points into configurations of a space and back.

    Attributes:
        numbers: how many numbers a point has.
        widths: for each choice how many values it has.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        chosen = [name for name, parameter in space.parameters.items() if _is_choice(parameter)]
        measured = [
            name for name, parameter in space.parameters.items() if _varies(parameter) and not _is_choice(parameter)
        ]
        self._choices = {name: place for place, name in enumerate(chosen)}
        self._numbers = {name: place for place, name in enumerate(measured)}
        self.numbers = max(FEWEST_NUMBERS, len(measured))
        idle = [2] * (FEWEST_CHOICES - len(chosen))
        self.widths = np.array([value_count(space.parameters[name]) or 1 for name in chosen] + idle)

    @property
    def dimensions(self) -> int:
        """How many parameters can vary."""
        return len(self._choices) + len(self._numbers)

    def configuration(self, point: Point) -> dict[str, ParameterValue]:
        """Return the configuration at a point; what does not apply there is left out."""
        numbers, choices = point
        chosen: dict[str, ParameterValue] = {}
        for name, parameter in self._space.active(chosen):
            if name in self._choices:
                chosen[name] = value_at(parameter, int(choices[self._choices[name]].argmax()))
            elif name in self._numbers:
                chosen[name] = value_of(parameter, float(numbers[self._numbers[name]]))
            else:
                chosen[name] = value_at(parameter, 0)
        return chosen

    def point(self, configuration: Mapping[str, ParameterValue], otherwise: Point) -> Point:
        """Return where a configuration of the space lies.

        Args:
            configuration: of the space.
            otherwise: a point that stands for what the configuration leaves open: parameters that do not apply, and
                where in the cell of a rounded number it lies.
        """
        numbers, choices = otherwise[0].copy(), otherwise[1].copy()
        for name, value in configuration.items():
            parameter = self._space.parameters[name]
            if name in self._choices:
                choices[self._choices[name]] = False
                choices[self._choices[name], _digit(parameter, value)] = True
            elif name in self._numbers and value_of(parameter, float(numbers[self._numbers[name]])) != value:
                assert not isinstance(parameter, CategoricalParameter), "choices are always few"
                numbers[self._numbers[name]] = _share(parameter, value)
        return numbers, choices


def _varies(parameter: Parameter) -> bool:
    return value_count(parameter) != 1


def _is_choice(parameter: Parameter) -> bool:
    count = value_count(parameter)
    return _varies(parameter) and (
        isinstance(parameter, CategoricalParameter) or (count is not None and count <= FEW_VALUES)
    )


def _digit(parameter: Parameter, value: ParameterValue) -> int:
    """Which value of a choice this is, counted from the first; of numbers the nearest, True is not 1."""
    if not isinstance(parameter, CategoricalParameter):
        assert not isinstance(value, str), "numbers have numbers as values"
        return min(round((value - parameter.low) / (parameter.step or 1)), (value_count(parameter) or 1) - 1)
    alike = (each == value and isinstance(each, bool) == isinstance(value, bool) for each in parameter.choices)
    return list(alike).index(True)


def _share(parameter: FloatParameter | IntParameter, value: ParameterValue) -> float:
    """Where in its range a value lies: what `value_of` makes it of, in the middle of its cell where it has one."""
    assert not isinstance(value, str), "numbers have numbers as values"
    low, high, place = float(parameter.low), float(parameter.high), float(value)
    if parameter.log:
        half = 0.5 if isinstance(parameter, IntParameter) else 0.0
        low, high, place = math.log(low - half), math.log(high + half), math.log(place)
    elif (count := value_count(parameter)) is not None:
        return (round((place - low) / (parameter.step or 1)) + 0.5) / count
    return (place - low) / (high - low)
