"""A sweep file of Weights & Biases becomes a study file with a command, and remarks on what is otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.studyfile.document import parse_document
from hpo_service.domain.sweepfile.command import Arguments, command_of
from hpo_service.domain.sweepfile.distributions import Parameter, parameter_of, plain
from hpo_service.domain.sweepfile.reading import Reading, Remark

SAMPLERS = {"bayes": "tpe", "random": "random", "grid": "grid"}
"""Samplers by the `method` of a sweep file."""
USUAL_TRIALS = 20
"""Trials where a sweep has no `run_cap`, as in study files; W&B would go on until somebody stops it."""
LARGEST_BUDGET = 100_000
MOST_RUNGS = 4
_FOR_PEOPLE = "is for W&B's own pages and is left out"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Translated:
    """A study file as plain data, its keys in the order that people write them, and what is otherwise in it."""

    study: dict[str, Any]
    remarks: list[Remark]


def translate(text: str, file: str, name: str) -> Translated:
    """Translate a sweep file.

    Args:
        text: its content, YAML.
        file: its name, as messages shall call it.
        name: of the study where the sweep has none.

    Raises:
        StudyFileError: it is no sweep file, or says something that cannot be understood; one line with file and line.
    """
    read = Reading.of(parse_document(text, file), file)
    searched, arguments = _parameters(read)
    study: dict[str, Any] = {"name": _named(str(read.take("name") or name))}
    if description := read.take("description"):
        study["description"] = str(description)
    study["objective"] = {"command": command_of(read, arguments)}
    study["space"] = {"parameters": searched}
    study["search"] = _search(read, searched)
    for key in ("project", "entity"):
        if read.take(key) is not None:
            read.remark(_FOR_PEOPLE, key)
    read.name_the_rest()
    return Translated(study, sorted(read.remarks, key=lambda remark: remark.line))


def _named(name: str) -> str:
    return _NOT_IN_NAMES.sub("-", name).strip("-._")[:100] or "sweep"


def _parameters(read: Reading) -> tuple[dict[str, Parameter], Arguments]:
    inner = read.inner("parameters")
    if inner is None:
        raise read.wrong("is no sweep file: it has no `parameters`")
    searched: dict[str, Parameter] = {}
    fixed: dict[str, ParameterValue] = {}
    for name, one in _flat(inner, ""):
        parameter = parameter_of(one)
        if name == "seed":
            one.remark("every trial has a seed of its own, which the command gets; confirm runs new ones")
        elif parameter is not None:
            searched[name] = parameter
        else:
            fixed[name] = plain(one.take("value"))
            one.name_the_rest()
    if not searched:
        raise inner.wrong("has nothing to search: every parameter is one value")
    return searched, Arguments(searched, fixed, seeded="seed" in inner.data)


def _flat(read: Reading, prefix: str) -> Iterator[tuple[str, Reading]]:
    """Go through parameters, nested ones under their names with dots between."""
    for key in read.data:
        one = read.inner(str(key))
        if one is None:
            raise read.wrong("has neither values nor a range", str(key))
        nested = one.inner("parameters") if "parameters" in one.data else None
        if nested is None:
            yield f"{prefix}{key}", one
            continue
        one.remark(
            f"its parameters are passed as --{prefix}{key}.NAME=VALUE, where W&B passes one nested value", "parameters"
        )
        one.name_the_rest()
        yield from _flat(nested, f"{prefix}{key}.")


def _search(read: Reading, searched: Mapping[str, Parameter]) -> dict[str, Any]:
    method = read.take("method")
    if method not in SAMPLERS:
        raise read.wrong(
            f"there is no method {method}: it is one of {', '.join(SAMPLERS)}", *(["method"] if method else [])
        )
    search: dict[str, Any] = {"sampler": SAMPLERS[method]}
    search["pruner"], rungs = _pruner(read)
    if rungs:
        search["rungs"] = rungs
    if _direction(read) == "maximize":
        search["direction"] = "maximize"
    cap = read.take("run_cap")
    if cap is None:
        cap = _grid_size(searched) if method == "grid" else None
        said = f"there is none, so W&B would not end: the budget is {USUAL_TRIALS} trials"
        if cap is None:
            read.remark(said, "run_cap")
    elif not isinstance(cap, int) or isinstance(cap, bool) or cap < 1:
        raise read.wrong("must be a number of runs, 1 or more", "run_cap")
    search["budget"] = {"trials": min(cap or USUAL_TRIALS, LARGEST_BUDGET)}
    return search


def _grid_size(searched: Mapping[str, Parameter]) -> int | None:
    """Count the configurations of a grid; None where a range has no steps, which `study validate` refuses."""
    size = 1
    for parameter in searched.values():
        if "choices" in parameter:
            size *= len(parameter["choices"])
        elif parameter["type"] == "int" or "step" in parameter:
            size *= int((parameter["high"] - parameter["low"]) / parameter.get("step", 1) + 1e-9) + 1
        else:
            return None
    return size


def _direction(read: Reading) -> str:
    metric = read.inner("metric")
    if metric is None:
        read.remark('there is none: the script is to print what is minimised, {"step": 1, "value": 2.3}', "metric")
        return "minimize"
    name, goal = metric.take("name"), metric.take("goal") or "minimize"
    if goal not in ("minimize", "maximize"):
        raise metric.wrong("is minimize or maximize", "goal")
    shown = '{"step": 1, "value": 2.3} at each evaluation and {"result": 1.9} at the end'
    metric.remark(
        f"is {name or 'not named'}: what W&B reads from wandb.log, the script is to print here, {shown}", "name"
    )
    if metric.take("target") is not None:
        metric.remark("no value ends a study: it ends with its budget", "target")
    metric.name_the_rest()
    return str(goal)


def _pruner(read: Reading) -> tuple[str, list[float]]:
    """Return the pruner that a sweep's early termination asks for, and its rungs where they follow from it."""
    ends = read.inner("early_terminate")
    if ends is None:
        return "none", []
    if ends.take("type") != "hyperband":
        raise ends.wrong("the one type there is is hyperband", "type")
    for key in ("min_iter", "max_iter", "s", "eta", "strict"):
        ends.take(key)
    eta, brackets = ends.number("eta", 3), ends.number("s", 0)
    kept = f"halving keeps the better half at each rung, where hyperband keeps 1 of {eta:g}"
    ends.name_the_rest()
    if "max_iter" in ends.data and eta > 1 and 1 <= brackets <= MOST_RUNGS:
        # W&B's brackets with max_iter and s lie at max_iter / eta, / eta^2, ... / eta^s
        rungs = [round(1 / eta**place, 6) for place in range(int(brackets), 0, -1)]
        ends.remark(f"{kept}; rungs lie at {', '.join(f'{rung:g}' for rung in rungs)} of the run")
        return "halving", rungs
    ends.remark(f"{kept}; rungs lie at 25% and 50% of the run: the script says how far it is in its `fraction`")
    return "halving", []
