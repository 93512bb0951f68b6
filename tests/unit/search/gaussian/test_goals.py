"""Limits and several goals under Gaussian processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import FloatParameter, SearchSpace
from hpo_service.search.distributions import distribution_of
from hpo_service.search.gaussian.encoding import Encoding
from hpo_service.search.gaussian.feasibility import chances, kept
from hpo_service.search.gaussian.improvement import promise
from hpo_service.search.gaussian.scalarisation import scalarised
from hpo_service.search.view import view_of

SPACE = SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)})
PLACES = (0.0, 0.15, 0.4, 0.6, 0.8, 1.0)
DOWN, UP = Direction.MINIMIZE, Direction.MAXIMIZE


def trial(x: float, *values: float, excess: float | None = None, pruned: bool = False) -> FrozenTrial:
    made = create_trial(
        params={"x": x},
        distributions={"x": distribution_of(SPACE.parameters["x"])},
        values=list(values) or None,
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
    )
    if excess is not None:
        made.system_attrs["constraints:seconds"] = excess
    return made


def test_the_chance_to_keep_a_limit_falls_where_costs_rise_and_is_one_where_nothing_is_limited() -> None:
    encoding = Encoding(SPACE)
    trials = [trial(x, 1.0, excess=2 * (x - 0.5)) for x in PLACES]
    low, middle, high = chances(encoding, trials, encoding.rows([{"x": 0.1}, {"x": 0.5}, {"x": 0.9}]))
    assert low > 0.95
    assert 0.2 < middle < 0.8
    assert high < 0.05
    free = [trial(x, 1.0) for x in PLACES]
    assert chances(encoding, free, encoding.rows([{"x": 0.9}])).tolist() == [1.0]


def test_the_best_that_is_not_allowed_is_not_looked_for() -> None:
    trials = [trial(x, (x - 0.8) ** 2, excess=2 * (x - 0.5)) for x in PLACES]
    found = promise(SPACE, DOWN, trials, 1)
    assert found is not None
    assert 0.4 <= float(found.candidates[0]["x"]) <= 0.55


def test_while_nothing_was_allowed_the_likeliest_to_be_is_tried() -> None:
    trials = [trial(x, 1 - x, excess=x + 0.1) for x in (0.4, 0.6, 0.8, 1.0)]
    found = promise(SPACE, DOWN, trials, 1)
    assert found is not None
    assert float(found.candidates[0]["x"]) < 0.2


def test_a_trial_that_does_not_fit_its_device_broke_no_limit_of_the_study() -> None:
    made = trial(0.5, 1.0)
    made.system_attrs["constraints:vram_over_gb"] = 1.0
    assert kept(made)
    assert not kept(trial(0.5, 1.0, excess=0.1))


@pytest.mark.parametrize("direction", [DOWN, UP])
def test_weights_differ_from_trial_to_trial_and_the_best_of_each_is_no_dominated_one(direction: Direction) -> None:
    sign = 1.0 if direction is DOWN else -1.0
    trials = [trial(x, sign * (1 - x), 1 + x) for x in PLACES]
    trials += [trial(0.5, sign * 2.0, 3.0), trial(0.3, pruned=True)]
    found = [scalarised(trials, direction, 2, seed) for seed in range(20)]
    best = {int(np.argmin(each)) for each in found}
    assert len(best) > 1
    assert best <= set(range(len(PLACES)))
    assert all(math.isinf(each[-1]) for each in found)
    assert scalarised(trials, direction, 2, 3).tolist() == found[3].tolist()


def test_nothing_that_was_measured_is_no_number() -> None:
    assert scalarised([trial(0.1, pruned=True)], DOWN, 2, 0).tolist() == [math.inf]
    assert promise(SPACE, DOWN, [trial(0.1, pruned=True)], 0, goals=2) is None


def test_proposals_for_two_goals_lie_along_their_front() -> None:
    trials = [trial(x, (x - 0.2) ** 2, 1 + (x - 0.7) ** 2) for x in PLACES]
    places = []
    for seed in range(8):
        found = promise(SPACE, DOWN, trials, seed, goals=2)
        assert found is not None
        places.append(float(found.candidates[0]["x"]))
    assert all(0.1 < place < 0.8 for place in places)
    assert max(places) - min(places) > 0.2


def test_samplers_for_several_goals_see_a_pruned_trial_as_the_worst_of_each() -> None:
    study = view_of([trial(0.1, 1.0, 5.0), trial(0.2, 2.0, 4.0), trial(0.3, pruned=True)], UP, 2)
    assert [each.values for each in study.trials] == [[1.0, 5.0], [2.0, 4.0], [1.0, 5.0]]
    assert view_of([trial(0.3, pruned=True)], DOWN, 2).trials == []
