"""The smallest difference that a comparison sees is the one it sees 4 times in 5, and more seeds make it smaller."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpo_service.domain.decide.detection import POWER, Spread, pooled_deviation, spread_of_seeds, t_quantile
from hpo_service.domain.decide.statistics import Comparison, compare, compare_values
from tests.unit.domain.decide.test_statistics import side


@pytest.mark.parametrize("seeds", [3, 6])
def test_the_smallest_difference_is_seen_four_times_in_five(seeds: int) -> None:
    smallest = spread_of_seeds(1.0, seeds).smallest(0.95)
    draws = np.random.default_rng(7)
    found = [
        compare_values(list(draws.normal(100, 1, seeds)), list(draws.normal(100 - smallest, 1, seeds)))
        for _ in range(600)
    ]
    seen = sum(one.low is not None and one.low > 0 for one in found) / len(found)
    # Welch's interval is a little wider than that of equal variances, for which the figure holds
    assert POWER - 0.12 < seen < POWER + 0.06


def test_the_smallest_difference_follows_from_the_intervals_width() -> None:
    # by hand: half of the interval is t(97.5%) errors, the smallest difference t(97.5%) + t(80%) of them
    found = compare_values([9.0, 10.0, 11.0], [6.0, 8.0, 10.0])
    freedom = 50 / 17
    half = found.high - found.improvement
    assert found.smallest == pytest.approx(half * (1 + t_quantile(0.8, freedom) / t_quantile(0.975, freedom)))


def test_rows_and_seeds_both_count() -> None:
    found = compare(side(3.0, rng=1), side(3.0, rng=2))
    half = (found.high - found.low) / 2
    assert 1.15 * half < found.smallest < 1.75 * half
    assert found.spread.seed_error > 0
    assert found.spread.row_error > 0


def test_more_seeds_see_less_but_never_less_than_rows_allow() -> None:
    spread = Spread(seeds=3, seed_error=1.0, seed_freedom=4.0, row_error=0.5, row_freedom=199.0)
    sizes = [spread.smallest(0.95, seeds) for seeds in (2, 3, 5, 10, 100, 100_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] == spread.smallest(0.95)
    assert sizes[-1] == pytest.approx(0.5 * (t_quantile(0.975, 199) + t_quantile(0.8, 199)), rel=1e-2)
    assert spread.seeds_to_see(0.9, 0.95) is None, "the rows alone hide it"
    assert spread.seeds_to_see(-3.0, 0.95) == spread.seeds_to_see(3.0, 0.95) == 5


def test_what_does_not_vary_hides_nothing() -> None:
    nothing = Spread(seeds=3, seed_error=0.0, seed_freedom=math.inf)
    assert nothing.smallest(0.95) == 0.0
    assert nothing.seeds_to_see(0.1, 0.95) == 2


def test_deviations_are_pooled_within_groups_relative_to_their_means() -> None:
    # by hand: 0.9 and 1.1 around 1 leave 0.02, 18 and 22 around 20 another 0.02, over 2 degrees of freedom
    assert pooled_deviation([[0.9, 1.1], [18.0, 22.0], [5.0], [], [0.0, 0.0]]) == pytest.approx(math.sqrt(0.02))
    assert pooled_deviation([[1.0]]) is None


def test_what_was_not_seen_is_said_with_what_it_would_take() -> None:
    spread = Spread(seeds=3, seed_error=0.5, seed_freedom=4.0)
    found = Comparison(1.0, 0.99, 1.0, -0.4, 2.4, confidence=0.95, seeds=3, spread=spread)
    assert found.sentence(run_hours=0.5) == (
        "not distinguishable from the default (+1.00%, 95% interval -0.40% to +2.40%; 3 seeds each); with 3 seeds a "
        "difference of 1.9% is seen 4 times in 5, and one of 1% with 7: 8 more runs, about 4 device-hours"
    )
    assert found.sentence().endswith("8 more runs")


@pytest.mark.parametrize("row_error, said", [(0.0, "more than 100 seeds each"), (2.0, "seeds each and more test rows")])
def test_what_no_number_of_seeds_shows_is_said(row_error: float, said: str) -> None:
    spread = Spread(3, 1.0, 4.0, row_error, 99.0)
    found = Comparison(1.0, 1.0, 0.01, -4.0, 4.0, confidence=0.95, seeds=3, spread=spread)
    assert found.sentence().endswith(said)


def test_a_difference_that_is_large_enough_and_was_missed_asks_for_nothing() -> None:
    found = Comparison(1.0, 1.0, 9.0, -1.0, 19.0, confidence=0.95, seeds=3, spread=Spread(3, 1.0, 4.0))
    assert found.sentence().endswith("is seen 4 times in 5")


def test_without_an_interval_nothing_is_said_of_what_can_be_seen() -> None:
    found = Comparison(1.0, 1.0, 0.1, None, None, confidence=0.95, seeds=1)
    assert (found.smallest, found.seeds_to_see) == (None, None)
    assert "4 times" not in found.sentence()
