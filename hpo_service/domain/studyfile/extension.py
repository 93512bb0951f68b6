"""How far a study may be extended, and the study file that comes of it: more of everything, and never less."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from hpo_service.domain.study.search_space import CategoricalParameter, IntParameter, Parameter, ParameterValue
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.study.spelling import unknown
from hpo_service.errors import UsageError

BETWEEN_CHOICES = re.compile(r",(?![^(]*\))")
"""A comma that separates choices, and not the names in one of them."""


@dataclass(frozen=True)
class Wider:
    """A range as it shall be: its ends, or its choices as they are written.

    Attributes:
        ends: low and high, both of them; None for choices.
        choices: all of them, those that there are included; empty for a range.
    """

    ends: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Extension:
    """What a study shall have in all; None is as much as it has.

    Attributes:
        trials: of its search.
        gpu_hours: of its search.
        whole_gpu_hours: of all its stages together.
        seeds: of each configuration in its confirm stage.
        ranges: by the parameter's name.
    """

    trials: int | None = None
    gpu_hours: float | None = None
    seeds: int | None = None
    whole_gpu_hours: float | None = None
    ranges: Mapping[str, Wider] = field(default_factory=dict)


def read_range(text: str) -> tuple[str, Wider]:
    """Read `learning_rate=1e-5:1e-2`, or `lora_rank=4,8,16` with all choices.

    Raises:
        UsageError: it is neither.
    """
    name, equals, said = text.partition("=")
    low, colon, high = said.partition(":")
    if not (name and equals and said):
        raise UsageError(f"--range {text}: write NAME=LOW:HIGH, or NAME=A,B,C with all choices")
    if not colon:
        return name, Wider(choices=tuple(choice.strip() for choice in BETWEEN_CHOICES.split(said)))
    try:
        return name, Wider(ends=(float(low), float(high)))
    except ValueError:
        raise UsageError(f"--range {text}: {low} to {high} are no two numbers; write NAME=LOW:HIGH") from None


def extended(spec: StudySpec, extension: Extension) -> tuple[StudySpec, list[str]]:
    """Return the study file as it is with an extension, and in words what is more in it.

    Raises:
        UsageError: nothing would be more, something would be less, or the study cannot be so.
    """
    document, said = spec.model_dump(mode="json", exclude_unset=True), list[str]()
    budget = spec.search.budget
    for path, named, before, after in (
        (("search", "budget", "trials"), "search trials", budget.trials, extension.trials),
        (("search", "budget", "gpu_hours"), "device hours of the search", budget.gpu_hours, extension.gpu_hours),
        (("budget", "gpu_hours"), "device hours of the study", spec.budget.gpu_hours, extension.whole_gpu_hours),
        (("confirm", "seeds"), "seeds each", spec.confirm.seeds, extension.seeds),
    ):
        if after is None or after == before:
            continue
        if before is None:
            raise UsageError(f"the study has no limit of {named}, so {after:g} would be less: leave it out")
        if after < before:
            raise UsageError(f"the study has {before:g} {named}, so {after:g} would be less: give the new total")
        _put(document, path, after)
        said.append(f"{before:g} to {after:g} {named}")
    for name, wider in extension.ranges.items():
        parameter = _widened(name, wider, spec.space.resolve().parameters)
        if parameter is not None:
            _put(document, ("space", "parameters", name), parameter.model_dump(mode="json", exclude_defaults=True))
            document["space"]["parameters"][name]["type"] = parameter.type
            said.append(f"{name} {_extent(parameter)}")
    if not said:
        raise UsageError("the study has all of that already: give more trials, seeds or a wider range")
    if extension.seeds is not None and not spec.confirm.enabled:
        raise UsageError("the study has no confirm stage, so more seeds are of no use")
    try:
        return StudySpec.model_validate(document), said
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _put(document: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        document = document.setdefault(key, {})
    document[path[-1]] = value


def _widened(name: str, wider: Wider, space: Mapping[str, Parameter]) -> Parameter | None:
    """Return a parameter with more values; None where it has those already."""
    parameter = space.get(name)
    if parameter is None:
        raise UsageError(f"--range {name}: {unknown('searched parameter', name, list(space))}")
    if isinstance(parameter, CategoricalParameter):
        choices = _more_choices(name, parameter, wider)
        return None if choices == parameter.choices else parameter.model_copy(update={"choices": choices})
    if wider.ends is None:
        raise UsageError(f"--range {name}: has a range, {parameter.low:g} to {parameter.high:g}; write {name}=LOW:HIGH")
    low, high = wider.ends
    if low > parameter.low or high < parameter.high:
        reason = f"{low:g} to {high:g} leaves out some of {parameter.low:g} to {parameter.high:g}"
        raise UsageError(f"--range {name}: {reason}, where trials may have been measured; give a range that holds it")
    if isinstance(parameter, IntParameter):
        if low != int(low) or high != int(high):
            raise UsageError(f"--range {name}: is a whole number; write whole ends")
        low, high = int(low), int(high)
    same = (low, high) == (parameter.low, parameter.high)
    if parameter.step is not None and not _whole((parameter.low - low) / parameter.step):
        raise UsageError(f"--range {name}: low must be whole steps of {parameter.step:g} below {parameter.low:g}")
    return None if same else parameter.model_copy(update={"low": low, "high": high})


def _whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-9


def _more_choices(name: str, parameter: CategoricalParameter, wider: Wider) -> list[ParameterValue]:
    """Return the choices there are, in their order, and behind them the new ones."""
    written = {_written(choice): choice for choice in parameter.choices}
    missing = [choice for choice in written if choice not in wider.choices]
    if wider.ends is not None or missing:
        reason = f"must keep the choices {', '.join(written)}, where trials may have been measured"
        raise UsageError(f"--range {name}: {reason}; write {name}={','.join(written)},...")
    new = [_like(parameter.choices, choice) for choice in wider.choices if choice not in written]
    return [*parameter.choices, *new]


def _written(choice: ParameterValue) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def _like(choices: list[ParameterValue], text: str) -> ParameterValue:
    """Read a choice as the kind of value that the others are."""
    if all(isinstance(choice, bool) for choice in choices) and text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _extent(parameter: Parameter) -> str:
    if isinstance(parameter, CategoricalParameter):
        return f"among {', '.join(map(_written, parameter.choices))}"
    return f"from {parameter.low:g} to {parameter.high:g}"
