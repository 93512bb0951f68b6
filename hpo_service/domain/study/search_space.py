"""The search space: named parameters with bounds and conditions, and what makes two configurations equal."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpo_service.domain.study.validation import Violations, refusal

ParameterValue = bool | int | float | str

MOST_VALUES = 2**53
"""Values that a grid may have: beyond, a 64-bit float no longer tells neighbours apart."""
LONGEST_KEY = 1000
"""Bytes of a configuration's key that are kept as they are: PostgreSQL's unique index takes no more than 2,700."""


class _Parameter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    when: dict[str, ParameterValue | list[ParameterValue]] = Field(
        default_factory=dict,
        description="Sample this parameter only where the named parameters have (one of) these values.",
    )

    def applies(self, chosen: Mapping[str, ParameterValue]) -> bool:
        """Tell whether the condition holds for the values chosen so far."""
        return all(
            name in chosen and chosen[name] in (allowed if isinstance(allowed, list) else [allowed])
            for name, allowed in self.when.items()
        )


class FloatParameter(_Parameter):
    """A real number in [low, high], uniform or log-uniform, optionally on a grid of width `step`."""

    type: Literal["float"] = "float"
    low: float = Field(description="Smallest value, included.")
    high: float = Field(description="Largest value, included.")
    log: bool = Field(default=False, description="Sample uniformly in the logarithm.")
    step: float | None = Field(default=None, gt=0, description="Grid width; excludes `log`.")

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        _check_bounds(self.low, self.high, self.log, self.step)
        return self


class IntParameter(_Parameter):
    """A whole number in [low, high], uniform or log-uniform, optionally every `step`."""

    type: Literal["int"] = "int"
    low: int = Field(description="Smallest value, included.")
    high: int = Field(description="Largest value, included.")
    log: bool = Field(default=False, description="Sample uniformly in the logarithm.")
    step: int | None = Field(default=None, gt=0, description="Every how many; excludes `log`.")

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        _check_bounds(self.low, self.high, self.log, self.step)
        return self


class CategoricalParameter(_Parameter):
    """One of a list of distinct values."""

    type: Literal["categorical"] = "categorical"
    choices: list[ParameterValue] = Field(
        min_length=1,
        description="The values to choose from; one of `target_modules` may be a list of names.",
    )

    @model_validator(mode="after")
    def _choices_differ(self) -> Self:
        seen: set[tuple[bool, ParameterValue]] = set()
        for choice in self.choices:
            if (isinstance(choice, bool), choice) in seen:
                reason = f"choices must differ from each other: drop the second {choice}"
                raise refusal("CategoricalParameter", reason, "choices")
            seen.add((isinstance(choice, bool), choice))
        return self


Parameter = Annotated[FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="type")]


def _check_bounds(low: float, high: float, log: bool, step: float | None) -> None:
    if low > high:
        raise refusal("Parameter", f"low ({_short(low)}) must not exceed high ({_short(high)})", "low")
    if log and low <= 0:
        raise refusal("Parameter", f"a log scale needs low above 0, not {_short(low)}", "low")
    if log and step is not None:
        raise refusal("Parameter", "log and step exclude each other: drop one", "step")
    if high - low == math.inf:
        reason = f"the range from {low:g} to {high:g} is wider than a number can be: narrow it"
        raise refusal("Parameter", reason, "low")
    if step is not None and (high - low) // step > MOST_VALUES:
        reason = f"every {_short(step)} from {_short(low)} to {_short(high)} is more than 2^53 values: widen step"
        raise refusal("Parameter", reason, "step")


def _short(number: float) -> str:
    """Write a number for a message; a whole one may be too large for a float."""
    return f"{number:g}" if abs(number) < MOST_VALUES else str(number)[:20]


def _never_holds(
    other: str, values: ParameterValue | list[ParameterValue], before: Mapping[str, Parameter]
) -> str | None:
    """Say why a condition on `other` cannot hold, or None where it can."""
    if other not in before:
        known = ", ".join(before) or "none"
        return f"`when` names {other!r}, which is not a parameter before it; those before it: {known}"
    allowed = values if isinstance(values, list) else [values]
    impossible = [value for value in allowed if not _can_be(before[other], value)]
    if impossible or not allowed:
        what = impossible[0] if impossible else "one of nothing"
        return f"`when` waits for {other} to be {what}, which is never sampled"
    return None


def _can_be(parameter: FloatParameter | IntParameter | CategoricalParameter, value: ParameterValue) -> bool:
    if isinstance(parameter, CategoricalParameter):
        return value in parameter.choices
    return isinstance(value, int | float) and parameter.low <= value <= parameter.high


def _said(value: ParameterValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _extent(parameter: FloatParameter | IntParameter | CategoricalParameter) -> str:
    if isinstance(parameter, CategoricalParameter):
        return ", ".join(map(str, parameter.choices))
    return f"{parameter.low:g} to {parameter.high:g}"


class SearchSpace(BaseModel):
    """An ordered set of parameters; a condition may only name parameters that come before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: dict[str, Parameter] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _conditions_look_back(self) -> Self:
        before: dict[str, Parameter] = {}
        wrong = Violations()
        for name, parameter in self.parameters.items():
            for other, values in parameter.when.items():
                reason = _never_holds(other, values, before)
                if reason:
                    wrong.add(reason, "parameters", name, "when", other)
            before[name] = parameter
        wrong.settle("SearchSpace")
        return self

    def active(self, chosen: Mapping[str, ParameterValue]) -> Iterator[tuple[str, Parameter]]:
        """Yield, in order, the parameters whose conditions hold; `chosen` may grow while iterating."""
        for name, parameter in self.parameters.items():
            if parameter.applies(chosen):
                yield name, parameter

    def outside(self, configuration: Mapping[str, ParameterValue]) -> list[str]:
        """Say of each value of a configuration that the space could not propose that it lies outside of it."""
        return [
            f"{name} {_said(value)} lies outside of what is searched, {_extent(self.parameters[name])}"
            for name, value in configuration.items()
            if name in self.parameters and not _can_be(self.parameters[name], value)
        ]

    def size(self) -> int | None:
        """Count the distinct configurations, or None where a continuous parameter makes them endless.

        Conditions are ignored, so this is an upper bound for conditional spaces.
        """
        counts = [value_count(parameter) for parameter in self.parameters.values()]
        finite = [count for count in counts if count is not None]
        return math.prod(finite) if len(finite) == len(counts) else None

    def endless(self) -> list[str]:
        """Name the continuous parameters, which make the space endless."""
        return [name for name, parameter in self.parameters.items() if value_count(parameter) is None]


def value_count(parameter: FloatParameter | IntParameter | CategoricalParameter) -> int | None:
    """Count the values of one parameter, or None where it is continuous."""
    if isinstance(parameter, CategoricalParameter):
        return len(parameter.choices)
    if parameter.low == parameter.high:
        return 1
    if isinstance(parameter, IntParameter):
        return (parameter.high - parameter.low) // (parameter.step or 1) + 1
    if parameter.step is None:
        return None
    return int((parameter.high - parameter.low) / parameter.step + 1e-9) + 1


def value_at(parameter: FloatParameter | IntParameter | CategoricalParameter, digit: int) -> ParameterValue:
    """Return the value number `digit` of a finite parameter, counted from its low end."""
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices[digit]
    if isinstance(parameter, IntParameter):
        return parameter.low + digit * (parameter.step or 1)
    return float(Decimal(str(parameter.low)) + digit * Decimal(str(parameter.step or 0)))


def canonical_key(parameters: Mapping[str, ParameterValue]) -> str:
    """Write a configuration as one canonical JSON text, so that equal configurations have equal keys.

    Floats are kept to 12 significant digits: below that, two values train the same run. Of a text that is too long for
    a unique index its SHA-256 stands for it.
    """
    text = json.dumps({name: _canonical(value) for name, value in parameters.items()}, sort_keys=True)
    return text if len(text) <= LONGEST_KEY else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _canonical(value: ParameterValue) -> ParameterValue:
    return float(f"{value:.12g}") if isinstance(value, float) else value
