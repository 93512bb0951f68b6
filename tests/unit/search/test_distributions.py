"""Our parameters in Optuna's terms."""

from __future__ import annotations

import warnings

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
)
from hpo_service.search.distributions import distribution_holding, distribution_of, holds, internal_value


@pytest.mark.parametrize(
    "parameter,expected",
    [
        (FloatParameter(low=0.0, high=1.0), FloatDistribution(0.0, 1.0)),
        (FloatParameter(low=1e-5, high=1e-3, log=True), FloatDistribution(1e-5, 1e-3, log=True)),
        (FloatParameter(low=0.1, high=0.35, step=0.1), FloatDistribution(0.1, 0.3, step=0.1)),
        (FloatParameter(low=0.0, high=0.3, step=0.1), FloatDistribution(0.0, 0.3, step=0.1)),
        (IntParameter(low=1, high=9), IntDistribution(1, 9)),
        (IntParameter(low=2, high=9, step=3), IntDistribution(2, 8, step=3)),
        (IntParameter(low=1, high=64, log=True), IntDistribution(1, 64, log=True)),
        (CategoricalParameter(choices=[4, 8]), CategoricalDistribution((4, 8))),
    ],
)
def test_each_kind_of_parameter_has_its_distribution(parameter: Parameter, expected: BaseDistribution) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert distribution_of(parameter) == expected


SPACE = SearchSpace(
    parameters={
        "rate": FloatParameter(low=0.0, high=1.0),
        "depth": IntParameter(low=1, high=4),
        "rank": CategoricalParameter(choices=[4, 8]),
    }
)


@pytest.mark.parametrize(
    "name,value,expected",
    [
        ("rate", 0.5, FloatDistribution(0.0, 1.0)),
        ("rate", 1, FloatDistribution(0.0, 1.0)),
        ("rate", 2.0, FloatDistribution(2.0, 2.0)),
        ("rate", True, CategoricalDistribution((True,))),
        ("depth", 4, IntDistribution(1, 4)),
        ("depth", 5, IntDistribution(5, 5)),
        ("depth", 2.5, FloatDistribution(2.5, 2.5)),
        ("rank", 8, CategoricalDistribution((4, 8))),
        ("rank", 16, IntDistribution(16, 16)),
        ("rank", "full", CategoricalDistribution(("full",))),
        ("unknown", 0.5, FloatDistribution(0.5, 0.5)),
    ],
)
def test_a_value_gets_the_spaces_distribution_or_one_of_its_own(
    name: str, value: ParameterValue, expected: BaseDistribution
) -> None:
    assert distribution_holding(name, value, SPACE) == expected


def test_choices_are_stored_by_index_and_true_is_not_one() -> None:
    distribution = CategoricalDistribution((True, 1, "a"))
    assert [internal_value(distribution, value) for value in (True, 1, "a")] == [0.0, 1.0, 2.0]
    assert not holds(distribution, False)


def test_a_value_that_is_no_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="not in"):
        internal_value(CategoricalDistribution((4, 8)), 16)
