"""Which configurations are expected to improve most, and by how much."""

from __future__ import annotations

import math

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import FloatParameter, SearchSpace
from hpo_service.search.distributions import distribution_of
from hpo_service.search.gaussian.improvement import MOST, _kept, _losses, _standard, promise

SPACE = SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)})
DOWN, UP = Direction.MINIMIZE, Direction.MAXIMIZE


def trial(
    x: float, value: float | None, state: TrialState = TrialState.COMPLETE, over: float | None = None
) -> FrozenTrial:
    made = create_trial(
        params={"x": x}, distributions={"x": distribution_of(SPACE.parameters["x"])}, value=value, state=state
    )
    if over is not None:
        made.system_attrs["constraints:vram_over_gb"] = over
    return made


def valley(*places: float) -> list[FrozenTrial]:
    return [trial(x, (x - 0.3) ** 2) for x in places]


def best(trials: list[FrozenTrial], direction: Direction = DOWN) -> float:
    found = promise(SPACE, direction, trials, 1)
    assert found is not None
    return float(found.candidates[0]["x"])


def test_the_bottom_of_a_valley_is_found_from_five_trials() -> None:
    assert best(valley(0.0, 0.2, 0.5, 0.8, 1.0)) == pytest.approx(0.3, abs=0.07)


def test_maximizing_looks_at_the_top() -> None:
    trials = [trial(x, 1 - (x - 0.7) ** 2) for x in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert best(trials, UP) == pytest.approx(0.7, abs=0.07)


def test_one_that_diverged_hides_nothing() -> None:
    diverged = [trial(0.9, 1e9), trial(0.95, None, TrialState.PRUNED)]
    assert best([*valley(0.0, 0.2, 0.5, 0.8), *diverged]) == pytest.approx(0.3, abs=0.07)


def test_one_that_does_not_fit_the_memory_counts_as_the_worst() -> None:
    assert _losses([trial(0.1, 0.5, TrialState.PRUNED, over=2.0), trial(0.2, 0.5, over=-1.0)], DOWN).tolist() == [
        math.inf,
        0.5,
    ]


def test_the_gain_falls_as_the_valley_becomes_known() -> None:
    few = promise(SPACE, DOWN, valley(0.0, 0.5, 1.0), 1)
    many = promise(SPACE, DOWN, valley(0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.5, 0.8, 1.0), 1)
    assert few is not None
    assert many is not None
    assert many.gain < 0.2 * few.gain


def test_nothing_is_promised_before_something_was_measured() -> None:
    assert promise(SPACE, DOWN, [], 1) is None
    assert promise(SPACE, DOWN, [trial(0.5, None, TrialState.PRUNED)], 1) is None


def test_nothing_is_promised_where_nothing_can_vary() -> None:
    assert promise(SearchSpace(parameters={"x": FloatParameter(low=1.0, high=1.0)}), DOWN, valley(0.5), 1) is None


def test_equal_values_are_no_fault() -> None:
    assert promise(SPACE, DOWN, [trial(x, 1.0) for x in (0.1, 0.5)], 1) is not None


def test_of_many_trials_the_best_half_and_the_latest_are_kept() -> None:
    losses = _losses([trial(0.5, float(value)) for value in range(MOST * 2)], DOWN)
    assert _kept(losses) == [*range(MOST // 2), *range(MOST * 2 - MOST // 2, MOST * 2)]


def test_losses_are_cut_as_far_above_the_median_as_the_best_lies_below() -> None:
    scaled, unit = _standard(_losses([trial(0.5, value) for value in (1.0, 2.0, 3.0, 50.0, 60.0)], DOWN))
    assert scaled[3] == scaled[4] == scaled.max()
    assert unit == pytest.approx(1.6, abs=0.2)
