"""Values of finite parameters by their number."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    value_at,
)


@pytest.mark.parametrize(
    "parameter,digit,value",
    [
        (CategoricalParameter(choices=["a", "b"]), 1, "b"),
        (IntParameter(low=2, high=9, step=3), 2, 8),
        (IntParameter(low=1, high=4), 3, 4),
        (FloatParameter(low=0.0, high=0.5, step=0.1), 3, 0.3),
        (FloatParameter(low=0.25, high=0.25), 0, 0.25),
    ],
)
def test_values_are_counted_from_the_low_end(parameter: Parameter, digit: int, value: ParameterValue) -> None:
    assert value_at(parameter, digit) == value
