"""Perplexity beside a loss, whatever the loss."""

import math

import pytest

from hpo_service.presentation.perplexity import perplexity


@pytest.mark.parametrize(
    "nll, expected",
    [(0.0, 1.0), (math.log(50.0), pytest.approx(50.0)), (1e4, math.inf), (math.inf, math.inf), (-1e4, 0.0)],
)
def test_it_is_the_exponential_and_never_overflows(nll, expected):
    assert perplexity(nll) == expected


@pytest.mark.parametrize("nll", [None, math.nan])
def test_without_a_loss_there_is_none(nll):
    assert perplexity(nll) is None
