"""When a search's best value lies at the edge of its range, and how far to widen that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.search_space import CategoricalParameter, Parameter, ParameterValue, SearchSpace

EDGE = 0.05
"""Outer part of a logarithmic range that counts as its edge."""
WIDEN = 4.0
"""How many times further a logarithmic range goes when it is widened."""


def widened(space: SearchSpace, best: Mapping[str, ParameterValue]) -> Iterator[tuple[str, str]]:
    """Name the parameters whose best value lies at the edge of a logarithmic range, each with what to widen it to."""
    for name, parameter in space.parameters.items():
        side = _side(parameter, best.get(name))
        if isinstance(parameter, CategoricalParameter) or not side:
            continue
        ends = {"low": parameter.low / WIDEN, "high": min(parameter.high * WIDEN, _most(name))}
        if side == "high" and ends[side] <= parameter.high:
            continue
        further = f"{ends[side]:.2g}" if isinstance(parameter.low, float) else f"{max(1, round(ends[side]))}"
        now = f"{parameter.low:g} to {parameter.high:g}"
        yield name, f"lies at the edge of its range, {now}: widen it to {side} {further}"


def _most(name: str) -> float:
    """The largest value that a study file may give a hyper-parameter; no limit is known of a name of the user's own."""
    field = Hyperparameters.model_fields.get(name)
    limits = (getattr(each, "le", None) for each in (field.metadata if field else ()))
    return min((float(each) for each in limits if each is not None), default=math.inf)


def _side(parameter: Parameter, value: ParameterValue | None) -> str:
    if isinstance(parameter, CategoricalParameter) or not parameter.log or not isinstance(value, int | float):
        return ""
    if parameter.low == parameter.high:
        return ""
    place = math.log(value / parameter.low) / math.log(parameter.high / parameter.low)
    return "low" if place < EDGE else "high" if 1 - place < EDGE else ""
