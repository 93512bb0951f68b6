"""The distributions of W&B's sweeps as parameters of a search space: a table, a row each.

Source: "Sweep configuration options" in W&B's documentation. Where ends are exponents of e they are raised; a bell or
beta curve becomes a flat range, which is said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.sweepfile.reading import Reading

Parameter = dict[str, Any]
"""A parameter of a space as a study file gives it."""
DEVIATIONS = 3.0
"""How far a flat range reaches to both sides of a bell curve's middle, in standard deviations: 99.7% of its draws."""


def parameter_of(read: Reading) -> Parameter | None:
    """Return the parameter that a sweep file's entry stands for; None where it is fixed to a `value`.

    Raises:
        StudyFileError: the distribution is unknown, or lacks what it needs.
    """
    if "value" in read.data:
        read.take("distribution")
        return None
    named = read.take("distribution") or _understood(read)
    if named not in DISTRIBUTIONS:
        raise read.wrong(f"there is no distribution {named}: those are {', '.join(DISTRIBUTIONS)}", "distribution")
    parameter = DISTRIBUTIONS[named](read)
    read.name_the_rest()
    return parameter


def _understood(read: Reading) -> str:
    """Name the distribution that is meant where none is written, as W&B does."""
    if "values" in read.data:
        return "categorical"
    ends = [read.data.get(key) for key in ("min", "max")]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise read.wrong("needs `value`, `values`, or numbers as `min` and `max`")
    return "int_uniform" if all(isinstance(end, int) for end in ends) else "uniform"


def _categorical(read: Reading) -> Parameter:
    values = read.take("values")
    if not isinstance(values, list) or not values:
        raise read.wrong("needs a list of `values`")
    if read.take("probabilities") is not None:
        read.remark("all values are equally likely here", "probabilities")
    choices = [plain(value) for value in values]
    if any(choice is not value for choice, value in zip(choices, values, strict=True)):
        read.remark("values that are no numbers, texts, true or false are written as text", "values")
    return {"type": "categorical", "choices": list({(isinstance(c, bool), c): c for c in choices}.values())}


def plain(value: Any) -> ParameterValue:
    """Return a value as a parameter can have it: lists and mappings as JSON, null as Python writes it."""
    if isinstance(value, bool | int | float | str):
        return value
    return "None" if value is None else json.dumps(value)


def _range(read: Reading, low: float, high: float, *, log: bool = False, whole: bool = False) -> Parameter:
    if low > high:
        raise read.wrong(f"min {low:g} is above max {high:g}; swap them")
    kind = {"type": "int", "low": int(low), "high": int(high)} if whole else {"low": float(low), "high": float(high)}
    return {"type": "float", **kind, **({"log": True} if log else {})}


def _ends(read: Reading) -> tuple[float, float]:
    return read.number("min"), read.number("max")


def _uniform(read: Reading) -> Parameter:
    return _range(read, *_ends(read))


def _int_uniform(read: Reading) -> Parameter:
    low, high = _ends(read)
    return _range(read, math.ceil(low), math.floor(high), whole=True)


def _log_values(read: Reading) -> Parameter:
    low, high = _ends(read)
    if low <= 0:
        raise read.wrong(f"a logarithmic range begins above 0, not at {low:g}", "min")
    return _range(read, low, high, log=True)


def _log_exponents(read: Reading) -> Parameter:
    low, high = _ends(read)
    made = _range(read, math.exp(low), math.exp(high), log=True)
    if low > 0 and high <= 1:
        said = f"min and max are exponents of e, so it goes from {made['low']:.4g} to {made['high']:.4g}"
        read.remark(f"{said}; was log_uniform_values meant?", "distribution")
    return made


def _inverse_exponents(read: Reading) -> Parameter:
    # log(1/X) is uniform between min and max, so X is logarithmic between their inverses
    low, high = _ends(read)
    return _range(read, math.exp(-high), math.exp(-low), log=True)


def _quantised(inner: Callable[[Reading], Parameter]) -> Callable[[Reading], Parameter]:
    """Return the reading of a distribution whose draws are rounded to multiples of `q`, which is 1 by default."""

    def read_quantised(read: Reading) -> Parameter:
        step, made = read.number("q", 1), inner(read)
        if step <= 0:
            raise read.wrong("must be above 0", "q")
        low, high = (math.floor(made[end] / step + 0.5) * step for end in ("low", "high"))
        if not made.get("log"):
            whole = all(float(each).is_integer() for each in (step, low, high))
            kind = "int" if whole else "float"
            number = int if whole else float
            return {"type": kind, "low": number(low), "high": number(high), "step": number(step)}
        if step == 1 and low >= 1:
            return {"type": "int", "low": int(low), "high": int(high), "log": True}
        read.remark(
            "a logarithmic range has no steps here: values are not rounded", *(["q"] if "q" in read.data else [])
        )
        return made

    return read_quantised


def _normal(read: Reading) -> Parameter:
    middle, deviation = read.number("mu", 0.0), read.number("sigma", 1.0)
    low, high = middle - DEVIATIONS * deviation, middle + DEVIATIONS * deviation
    read.remark(
        f"a normal distribution becomes a flat range of {DEVIATIONS:g} sigma, {low:g} to {high:g}", "distribution"
    )
    return _range(read, low, high)


def _log_normal(read: Reading) -> Parameter:
    middle, deviation = read.number("mu", 0.0), read.number("sigma", 1.0)
    low, high = math.exp(middle - DEVIATIONS * deviation), math.exp(middle + DEVIATIONS * deviation)
    said = f"{DEVIATIONS:g} sigma, {low:.4g} to {high:.4g}"
    read.remark(f"a log-normal distribution becomes a logarithmic range of {said}", "distribution")
    return _range(read, low, high, log=True)


def _beta(read: Reading) -> Parameter:
    for shape in ("a", "b"):
        read.take(shape)
    read.remark("a beta distribution becomes the flat range from 0 to 1", "distribution")
    return _range(read, 0.0, 1.0)


DISTRIBUTIONS: Mapping[str, Callable[[Reading], Parameter]] = {
    "categorical": _categorical,
    "categorical_w_probabilities": _categorical,
    "int_uniform": _int_uniform,
    "uniform": _uniform,
    "q_uniform": _quantised(_uniform),
    "log_uniform": _log_exponents,
    "log_uniform_values": _log_values,
    "q_log_uniform": _quantised(_log_exponents),
    "q_log_uniform_values": _quantised(_log_values),
    "inv_log_uniform": _inverse_exponents,
    "inv_log_uniform_values": _log_values,  # log(1/X) is uniform between log(1/max) and log(1/min): so is log X
    "normal": _normal,
    "q_normal": _quantised(_normal),
    "log_normal": _log_normal,
    "q_log_normal": _quantised(_log_normal),
    "beta": _beta,
    "q_beta": _quantised(_beta),
}
"""How each distribution is read, by the name it has in sweep files; `constant` is a `value`, which is not searched."""
