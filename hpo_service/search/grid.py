"""Finite spaces: every configuration once, in an order that is shuffled but always the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random

from hpo_service.domain.study.search_space import (
    FloatParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
    canonical_key,
    value_at,
    value_count,
)

LISTED_AT_MOST = 200_000
"""Conditional spaces up to this size are listed in memory; twice the largest budget a study may have."""

_ROUNDS = 4
_GOLDEN = 0x9E3779B97F4A7C15


def shuffled(space: SearchSpace, *, seed: int, start: int = 0) -> Iterator[dict[str, ParameterValue]]:
    """Yield every configuration of a finite space exactly once, beginning `start` places into the order.

    Configurations that differ only in parameters whose conditions don't hold are one and the same.

    Raises:
        ValueError: a continuous parameter makes the space endless.
    """
    size = space.size()
    if size is None:
        raise ValueError(f"the space is endless: no step is given for {', '.join(space.endless())}")
    if not any(parameter.when for parameter in space.parameters.values()):
        yield from _by_index(space, size, seed, start)
        return
    listed = list(islice(_branches(space, list(space.parameters), {}), LISTED_AT_MOST + 1))
    if len(listed) > LISTED_AT_MOST:
        yield from distinct(_by_index(space, size, seed, start))
        return
    Random(seed).shuffle(listed)
    start %= len(listed)
    yield from listed[start:] + listed[:start]


def _by_index(space: SearchSpace, size: int, seed: int, start: int) -> Iterator[dict[str, ParameterValue]]:
    """Walk the product of all values by index, so that a space of any size costs no memory."""
    keys = [Random(seed).getrandbits(64) + turn for turn in range(_ROUNDS)]
    for place in range(size):
        yield _configuration(space, _permuted((start + place) % size, size, keys))


def _permuted(place: int, size: int, keys: list[int]) -> int:
    """Map places to indices one to one: a small Feistel network, walked until it lands inside the space.

    Black and Rogaway, "Ciphers with arbitrary finite domains" (2002).
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    index = place
    while True:
        left, right = index >> half, index & mask
        for key in keys:
            left, right = right, left ^ (((right ^ key) * _GOLDEN >> 32) & mask)
        index = left << half | right
        if index < size:
            return index


def _configuration(space: SearchSpace, index: int) -> dict[str, ParameterValue]:
    """Read an index as a mixed-radix number, one digit a parameter, and drop what does not apply."""
    chosen: dict[str, ParameterValue] = {}
    for name, parameter in space.parameters.items():
        index, digit = divmod(index, value_count(parameter) or 1)
        if parameter.applies(chosen):
            chosen[name] = value_at(parameter, digit)
    return chosen


def _branches(
    space: SearchSpace, names: list[str], chosen: dict[str, ParameterValue]
) -> Iterator[dict[str, ParameterValue]]:
    """Go through a conditional space branch by branch."""
    if not names:
        yield dict(chosen)
        return
    name, rest = names[0], names[1:]
    parameter = space.parameters[name]
    if not parameter.applies(chosen):
        yield from _branches(space, rest, chosen)
        return
    for digit in range(value_count(parameter) or 1):
        yield from _branches(space, rest, {**chosen, name: value_at(parameter, digit)})


def distinct(configurations: Iterable[dict[str, ParameterValue]]) -> Iterator[dict[str, ParameterValue]]:
    """Leave out configurations that were there before."""
    met: set[str] = set()
    for configuration in configurations:
        key = canonical_key(configuration)
        if key not in met:
            met.add(key)
            yield configuration


def on_grid(parameter: Parameter, value: ParameterValue) -> ParameterValue:
    """Return the grid point a sampled value means: 0.3, not the 0.30000000000000004 of adding up steps."""
    if not isinstance(parameter, FloatParameter) or parameter.step is None or isinstance(value, str):
        return value
    return value_at(parameter, round((value - parameter.low) / parameter.step))
