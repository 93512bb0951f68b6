"""Comparisons say better, WORSE or not distinguishable, and their intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpo_service.domain.decide.statistics import Comparison, compare, compare_values, t_quantile, widening
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.scores import Scores

ROWS = 200


def side(mean: float, *, seeds: int = 3, spread: float = 0.01, noise: float = 0.05, rng: int = 0) -> list[Scores]:
    """Seeds of one configuration on rows whose difficulty all sides share; `spread` is between seeds."""
    tokens = np.random.default_rng(1).integers(5, 20, ROWS)
    difficulty = np.random.default_rng(2).normal(0, 0.5, ROWS)
    own = np.random.default_rng(rng)
    rows = [mean + difficulty + own.normal(0, spread) + own.normal(0, noise, ROWS) for _ in range(seeds)]
    return [Scores(nll=list(map(float, row * tokens)), tokens=list(map(int, tokens))) for row in rows]


def test_a_clear_improvement_is_called_better_with_its_interval() -> None:
    found = compare(side(3.0, rng=1), side(2.7, rng=2))
    assert found.distinguishable
    assert 8 < found.low < found.improvement < found.high < 12
    assert found.sentence().startswith("better than the default by ")
    assert "(95% interval +" in found.sentence()
    assert "3 seeds each, 200 test rows" in found.sentence()


def test_a_clear_loss_is_called_worse_in_capitals() -> None:
    found = compare(side(2.7, rng=1), side(3.0, rng=2))
    assert found.improvement < 0
    assert found.sentence().startswith("WORSE than the default by ")


def test_no_difference_is_said_not_to_be_distinguishable() -> None:
    found = compare(side(3.0, rng=1), side(3.0, rng=2))
    assert not found.distinguishable
    assert found.sentence().startswith("not distinguishable from the default (")


def test_the_means_are_weighted_by_tokens() -> None:
    short, long = Scores(nll=[10.0, 10.0], tokens=[10, 1]), Scores(nll=[20.0, 2.0], tokens=[10, 1])
    found = compare([short, short], [long, long])
    assert found.baseline == pytest.approx(20 / 11)
    assert found.candidate == pytest.approx(22 / 11)
    assert found.improvement == pytest.approx(-10.0)


def test_seeds_that_differ_widen_the_interval() -> None:
    calm = compare(side(3.0, spread=0.001, rng=1), side(2.9, spread=0.001, rng=2))
    wild = compare(side(3.0, spread=0.2, rng=1), side(2.9, spread=0.2, rng=2))
    assert wild.high - wild.low > 5 * (calm.high - calm.low)


def test_a_single_seed_of_a_side_gives_no_interval_and_no_claim() -> None:
    found = compare(side(3.0, rng=1), side(2.5, seeds=1, rng=2))
    assert (found.low, found.high, found.interval) == (None, None, "none")
    assert not found.distinguishable
    assert "no interval: it takes two seeds of each; 1 seed each" in found.sentence()


def test_the_same_scores_and_seed_give_the_same_interval() -> None:
    a, b = side(3.0, rng=1), side(2.9, rng=2)
    assert compare(a, b) == compare(a, b)


def test_many_rows_are_resampled_in_pieces() -> None:
    rows = 3000
    a = [Scores(nll=[3.0 + seed / 100] * rows, tokens=[1] * rows) for seed in range(2)]
    found = compare(a, a, resamples=2000)
    assert found.low < 0 < found.high


@pytest.mark.parametrize("spread", [0.0, 0.02, 0.1])
def test_intervals_of_equal_configurations_hold_zero_as_often_as_they_say(spread: float) -> None:
    found = [
        compare(side(3.0, spread=spread, rng=2 * i), side(3.0, spread=spread, rng=2 * i + 1), resamples=300)
        for i in range(150)
    ]
    hits = sum(f.low <= 0 <= f.high for f in found)
    assert hits >= 0.9 * len(found), "three seeds must not be taken for more than they are"


def test_scores_of_other_rows_are_refused() -> None:
    a = Scores(nll=[1.0, 2.0], tokens=[1, 2])
    for other in (Scores(nll=[1.0], tokens=[1]), Scores(nll=[1.0, 2.0], tokens=[2, 1])):
        with pytest.raises(ValueError, match="not scored on the same rows"):
            compare([a], [other])


def test_an_empty_side_or_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        compare([], side(1.0))
    with pytest.raises(ValueError, match="no test rows"):
        compare([Scores(nll=[], tokens=[])], [Scores(nll=[], tokens=[])])


def test_a_baseline_of_nothing_is_compared_by_the_difference() -> None:
    zero, one = Scores(nll=[0.0] * 5, tokens=[1] * 5), Scores(nll=[1.0] * 5, tokens=[1] * 5)
    found = compare([zero, zero], [one, one])
    assert (found.improvement, found.unit) == (-1.0, "")
    assert found.sentence().startswith("WORSE than the default by 1.00 (")


def test_values_of_seeds_are_compared_by_welchs_interval() -> None:
    # by hand: means 10 and 8, variances 1 and 4, n = 3: error sqrt(5/3), freedom (5/3)^2/((1/9 + 16/9)/2) = 2.9412
    found = compare_values([9.0, 10.0, 11.0], [6.0, 8.0, 10.0])
    half = 10 * math.sqrt(5 / 3) * t_quantile(0.975, 50 / 17)
    assert found.improvement == pytest.approx(20.0)
    assert found.high - found.improvement == pytest.approx(half)
    assert found.improvement - found.low == pytest.approx(half)
    assert not found.distinguishable
    assert "test rows" not in found.sentence()


def test_maximising_turns_the_sign() -> None:
    found = compare_values([0.50, 0.51, 0.49], [0.60, 0.61, 0.59], direction=Direction.MAXIMIZE)
    assert found.improvement == pytest.approx(20.0)
    assert found.sentence().startswith("better than the default by 20.00% (95% interval +")
    assert compare_values([0.6, 0.61], [0.5, 0.51], direction=Direction.MAXIMIZE).sentence().startswith("WORSE")


def test_a_negative_baseline_does_not_turn_the_sign() -> None:
    assert compare_values([-1.0, -1.1], [-2.0, -2.1]).improvement > 0
    assert compare_values([-1.0, -1.1], [-2.0, -2.1], direction=Direction.MAXIMIZE).improvement < 0


def test_a_baseline_of_zero_gives_the_difference_itself() -> None:
    found = compare_values([0.0, 0.0], [-0.5, -0.5])
    assert (found.improvement, found.unit) == (0.5, "")


def test_a_baseline_next_to_nothing_is_not_divided_by() -> None:
    for tiny in (5e-324, 1e-9, -1e-9):
        found = compare_values([tiny, tiny], [2.0, 2.0])
        assert (found.improvement, found.unit) == (pytest.approx(-2.0), "")
    assert compare_values([0.001, 0.001], [0.002, 0.002]).unit == "%"


def test_seeds_that_agree_exactly_are_one_measurement_and_prove_nothing() -> None:
    found = compare_values([2.0, 2.0], [1.0, 1.0])
    assert (found.improvement, found.low, found.high) == (50.0, None, None)
    assert not found.distinguishable
    assert "the seeds made no difference" in found.sentence()


def test_one_value_gives_no_interval() -> None:
    found = compare_values([2.0], [1.0, 1.0])
    assert (found.improvement, found.low, found.seeds) == (50.0, None, 1)


def test_values_that_are_missing_or_not_finite_are_refused() -> None:
    for wrong in ([], [math.nan], [math.inf]):
        with pytest.raises(ValueError, match="at least one finite value"):
            compare_values([1.0], wrong)


@pytest.mark.parametrize(
    "probability, freedom, expected",
    [
        # a table of Student's t, as printed in any textbook
        (0.975, 1, 12.706205),
        (0.975, 2, 4.302653),
        (0.975, 4, 2.776445),
        (0.975, 10, 2.228139),
        (0.995, 3, 5.840909),
        (0.9, 30, 1.310415),
        (0.975, 120, 1.979930),
        (0.975, 1e6, 1.959966),
        (0.5, 7, 0.0),
    ],
)
def test_t_quantiles_are_those_of_the_tables(probability: float, freedom: float, expected: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(expected, abs=2e-6)


def test_t_quantiles_are_refused_where_the_formula_does_not_hold() -> None:
    for probability, freedom in ((0.4, 3), (1.0, 3), (0.9, 0.5)):
        with pytest.raises(ValueError, match="no t quantile"):
            t_quantile(probability, freedom)


def test_the_level_is_part_of_what_is_said() -> None:
    found = Comparison(1.0, 0.9, 10.0, 5.0, 15.0, confidence=0.999, seeds=3)
    assert found.sentence() == "better than the default by 10.00% (99.9% interval +5.00% to +15.00%; 3 seeds each)"


def few_rows(rows: int, *, shift: float, rng: int) -> tuple[list[Scores], list[Scores]]:
    """Two sides of three seeds on few rows that differ by `shift` per token on average, row by row by much more."""
    draws = np.random.default_rng(rng)
    level, own = draws.gamma(4, 0.5, rows), draws.normal(0, 0.3, rows)
    sides = []
    for delta in (np.zeros(rows), own - shift):
        per_token = level + delta + draws.normal(0, 0.005, (3, rows))
        sides.append([Scores(nll=list(map(float, row * 10)), tokens=[10] * rows) for row in per_token])
    return sides[0], sides[1]


@pytest.mark.parametrize("rows", [5, 10, 20])
def test_intervals_from_few_rows_hold_the_truth_as_often_as_they_say(rows: int) -> None:
    pairs = [few_rows(rows, shift=0.1, rng=i) for i in range(200)]
    hits = 0
    for baseline, candidate in pairs:
        found = compare(baseline, candidate, resamples=400)
        truth = 0.1 * (100 / found.baseline if found.unit else 1.0)
        hits += found.low <= truth <= found.high
    assert 0.90 * len(pairs) <= hits <= 0.995 * len(pairs)


def test_the_widening_is_that_of_students_t_and_fades_with_rows() -> None:
    # by hand: t(4) at 97.5% is 2.776445, z is 1.959964, sqrt(5/4) is 1.118034
    assert widening(5, 0.95) == pytest.approx(2.776445 / 1.959964 * 1.118034, abs=1e-5)
    assert 1 < widening(1000, 0.95) < 1.003
    assert widening(1.5, 0.95) > widening(2, 0.95) > widening(3, 0.95)


def test_too_few_rows_are_said_to_be_too_few_and_prove_nothing() -> None:
    baseline, candidate = few_rows(4, shift=1.0, rng=0)
    found = compare(baseline, candidate)
    assert (found.low, found.distinguishable) == (None, False)
    assert "no interval: too few test rows, it takes 5; 3 seeds each, 4 test rows" in found.sentence()


def test_a_row_without_a_finite_loss_is_left_out_of_both_sides() -> None:
    baseline, candidate = side(3.0, rng=1), side(2.7, rng=2)
    holed = [Scores(nll=[math.nan, *scores.nll[1:]], tokens=scores.tokens) for scores in candidate[:1]] + candidate[1:]
    found = compare(baseline, holed)
    without = [[Scores(nll=s.nll[1:], tokens=s.tokens[1:]) for s in each] for each in (baseline, candidate)]
    assert found.left_out == 1
    assert found.improvement == pytest.approx(compare(*without).improvement)
    assert math.isfinite(found.low + found.high)


def test_many_rows_without_a_finite_loss_are_no_comparison() -> None:
    holed = Scores(nll=[math.inf] * 2 + [1.0] * 8, tokens=[1] * 10)
    whole = Scores(nll=[1.0] * 10, tokens=[1] * 10)
    with pytest.raises(ValueError, match="2 of 10 test rows have no finite loss in some run"):
        compare([whole, whole], [holed, holed])


def test_no_percentage_above_a_hundred_is_said() -> None:
    found = compare_values([0.01, 0.011, 0.009], [0.5, 0.51, 0.49], direction=Direction.MAXIMIZE)
    assert (found.improvement, found.unit) == (pytest.approx(0.49), "")
    assert found.sentence().startswith("better than the default by 0.49 (95% interval +")
    assert compare_values([1.0, 9.0], [0.5, 8.0]).unit == "", "an interval of hundreds of percent says nothing"
    baseline, candidate = few_rows(5, shift=-9.0, rng=1)
    assert compare(baseline, candidate).unit == ""


def answered(right: float, *, seeds: int = 3, rng: int = 0) -> list[Scores]:
    """Seeds of one configuration that answer so many of the rows rightly, by their difficulty and some luck."""
    difficulty = np.random.default_rng(2).uniform(0, 1, ROWS)
    luck = np.random.default_rng(rng).normal(0, 0.05, (seeds, ROWS))
    return [Scores.of_answers([float(row) for row in (difficulty + each < right)]) for each in luck]


def test_a_metric_is_told_with_both_values_and_their_difference_in_points() -> None:
    found = compare(
        answered(0.3, rng=1), answered(0.4, rng=2), direction=Direction.MAXIMIZE, unit="points", measure="exact match"
    )
    assert found.improvement == pytest.approx(100 * (found.candidate - found.baseline))
    assert found.low < found.improvement < found.high
    assert found.distinguishable
    both = f"{found.candidate:.4g} against {found.baseline:.4g}"
    assert found.sentence().startswith(
        f"better than the default by {found.improvement:.2f} points of exact match, {both} (95% interval +"
    )
    assert " points; 3 seeds each, 200 test rows)" in found.sentence()


def test_points_of_a_metric_mirror_those_of_its_opposite() -> None:
    sides = answered(0.3, rng=1), answered(0.4, rng=2)
    more = compare(*sides, direction=Direction.MAXIMIZE, unit="points")
    less = compare(*sides, unit="points")
    assert (less.improvement, less.low, less.high) == pytest.approx((-more.improvement, -more.high, -more.low))


def test_metrics_that_cannot_be_told_apart_are_named_with_what_would_be_seen() -> None:
    said = compare(
        answered(0.40, rng=1), answered(0.41, rng=2), direction=Direction.MAXIMIZE, unit="points", measure="token F1"
    ).sentence()
    assert said.startswith("not distinguishable from the default in token F1, 0.4")
    assert " points is seen 4 times in 5" in said


def test_seeds_of_a_metric_are_compared_by_their_values_in_its_own_unit() -> None:
    values = [3.0, 3.2, 3.1], [4.0, 4.2, 4.1]
    plain = compare_values(*values, direction=Direction.MAXIMIZE, unit="", measure="test my:metric")
    assert plain.sentence().startswith("better than the default by 1.00 in test my:metric, 4.1 against 3.1 (95%")
    points = compare_values(*values, direction=Direction.MAXIMIZE, unit="points")
    assert points.improvement == pytest.approx(100.0)
    assert points.interval.endswith(" points")
