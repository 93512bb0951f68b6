"""Where a search begins: the configurations that it tries before its sampler is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpo_service.domain.decide.planning.default import default_parameters
from hpo_service.domain.study.search_space import FloatParameter, Parameter, ParameterValue, canonical_key
from hpo_service.domain.study.space.membership import beyond, middle_value, misfit, nearest_value
from hpo_service.domain.study.spec import StudySpec

DEFAULT = "default"


@dataclass(frozen=True)
class Beginning:
    """A configuration that a search tries whatever its sampler says.

    Attributes:
        role: why, in a word or two.
        parameters: the configuration, inside the space.
    """

    role: str
    parameters: dict[str, ParameterValue]


def beginnings(spec: StudySpec) -> list[Beginning]:
    """Return what a study's search begins with: the default, so that it holds its baseline, and what the user enqueued.

    What an enqueued configuration leaves out is the default's. An objective of the user's own has a default only where
    `confirm.default` says so. A default that lies beyond the end of a range is not tried: moved to that end it would be
    no baseline any more, and the worst place of the range to spend a whole run on, which nobody can stop early.
    """
    space, plain = spec.space.resolve(), default_inside(spec)
    found: dict[str, Beginning] = {}
    if plain and not default_beyond(spec):
        _add(found, Beginning(DEFAULT, _walked(spec, {}, plain)))
    for number, given in enumerate(spec.search.enqueue, start=1):
        values = {name: _typed(space.parameters[name], value) for name, value in given.items()}
        _add(found, Beginning(f"enqueued {number}", _walked(spec, values, plain)))
    return list(found.values())


def _add(found: dict[str, Beginning], one: Beginning) -> None:
    """Add a configuration unless it is there already."""
    found.setdefault(canonical_key(one.parameters), one)


def default_inside(spec: StudySpec) -> dict[str, ParameterValue]:
    """Return the default of each searched parameter, moved to the nearest value of its range; empty without one."""
    return {name: nearest_value(spec.space.resolve().parameters[name], v) for name, v in default_values(spec).items()}


def default_outside(spec: StudySpec) -> dict[str, tuple[ParameterValue, str]]:
    """Return the defaults that lie outside of the space, by parameter, each with why it is none of its values."""
    parameters = spec.space.resolve().parameters
    found = {name: (value, misfit(parameters[name], value)) for name, value in default_values(spec).items()}
    return {name: (value, why) for name, (value, why) in found.items() if why}


def default_beyond(spec: StudySpec) -> list[str]:
    """Return the parameters whose default lies beyond an end of their range; what lies between choices is none."""
    parameters = spec.space.resolve().parameters
    return [name for name, value in default_values(spec).items() if beyond(parameters[name], value)]


def default_values(spec: StudySpec) -> dict[str, ParameterValue]:
    """Return the default of each searched parameter, wherever it lies; empty where the study has none."""
    parameters = spec.space.resolve().parameters
    default = default_parameters(spec, {name: middle_value(parameter) for name, parameter in parameters.items()})
    if default is None:
        return {}
    if "lora_alpha_multiplier" in parameters and "lora_alpha" in default:
        rank = default.get("lora_rank", spec.training.lora_rank)
        default["lora_alpha_multiplier"] = float(default["lora_alpha"]) / float(rank)
    if "lora_alpha" in parameters and "lora_alpha_multiplier" in default:
        rank = default.get("lora_rank", spec.training.lora_rank)
        default["lora_alpha"] = float(default["lora_alpha_multiplier"]) * float(rank)
    return {name: default[name] for name in parameters}


def _walked(
    spec: StudySpec, given: Mapping[str, ParameterValue], plain: Mapping[str, ParameterValue]
) -> dict[str, ParameterValue]:
    """Go through the space as a sampler would, so that a parameter whose condition does not hold is left out."""
    chosen: dict[str, ParameterValue] = {}
    for name, _ in spec.space.resolve().active(chosen):
        chosen[name] = given[name] if name in given else plain[name]
    return chosen


def _typed(parameter: Parameter, value: ParameterValue) -> ParameterValue:
    """Return a number as the kind that samplers draw, so that equal configurations have equal keys."""
    return float(value) if isinstance(parameter, FloatParameter) else nearest_value(parameter, value)
