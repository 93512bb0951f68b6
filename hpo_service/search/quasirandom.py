"""Points that fill the space evenly: a scrambled Halton sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    ParameterValue,
    SearchSpace,
    value_at,
    value_count,
)


def halton(space: SearchSpace, *, seed: int, start: int) -> Iterator[dict[str, ParameterValue]]:
    """Yield the sequence's points from number `start` on, as configurations; parameter i uses the i-th prime.

    Stateless: point n depends on seed and n alone, so workers share one sequence without talking. Digits are
    permuted at random per position (Owen, "A randomized Halton algorithm in R", 2017), which keeps many
    parameters from moving in step.
    """
    from scipy.stats.qmc import Halton  # here, because it takes a second and one sampler alone needs it

    sequence = Halton(len(space.parameters), rng=seed).fast_forward(start)
    while True:
        shares = dict(zip(space.parameters, sequence.random()[0].tolist(), strict=True))
        chosen: dict[str, ParameterValue] = {}
        for name, parameter in space.active(chosen):
            chosen[name] = value_of(parameter, shares[name])
        yield chosen


def value_of(parameter: FloatParameter | IntParameter | CategoricalParameter, share: float) -> ParameterValue:
    """Return the value at a share in [0, 1) of the parameter's range, in the logarithm where it asks for that."""
    size = value_count(parameter)
    if size is not None and not getattr(parameter, "log", False):
        return value_at(parameter, min(int(share * size), size - 1))
    assert not isinstance(parameter, CategoricalParameter), "choices are always countable"
    if isinstance(parameter, IntParameter):
        # each whole number owns half a step to both sides, as in Optuna
        low, high = math.log(parameter.low - 0.5), math.log(parameter.high + 0.5)
        return min(max(round(math.exp(low + share * (high - low))), parameter.low), parameter.high)
    if parameter.log:
        low, high = math.log(parameter.low), math.log(parameter.high)
        return min(max(math.exp(low + share * (high - low)), parameter.low), parameter.high)
    return parameter.low + share * (parameter.high - parameter.low)
