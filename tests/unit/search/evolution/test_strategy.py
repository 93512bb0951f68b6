"""What CMA-ES makes of trials that have ended: it follows what is good, and is the same for the same trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    ParameterValue,
    SearchSpace,
)
from hpo_service.search.distributions import distribution_of
from hpo_service.search.evolution.strategy import generations

Configuration = dict[str, ParameterValue]
START = datetime(2026, 1, 1)
SPACE = SearchSpace(
    parameters={
        "x": FloatParameter(low=0.0, high=1.0),
        "y": FloatParameter(low=1e-4, high=1.0, log=True),
        "kind": CategoricalParameter(choices=["a", "b", "c"]),
        "z": FloatParameter(low=0.0, high=1.0, when={"kind": "b"}),
        "n": IntParameter(low=0, high=20),
    }
)


def number(parameters: Configuration, name: str) -> float:
    value = parameters[name]
    assert isinstance(value, int | float)
    return float(value)


def bowl(parameters: Configuration) -> float:
    distance = (number(parameters, "x") - 0.2) ** 2 + (math.log10(number(parameters, "y")) + 3) ** 2 / 4
    return distance + (number(parameters, "n") - 15) ** 2 / 400 + 0.1 * (parameters["kind"] != "b")


def trial(
    place: int,
    parameters: Configuration,
    value: float | None,
    state: TrialState = TrialState.COMPLETE,
    constraints: dict[str, float] | None = None,
) -> FrozenTrial:
    made = create_trial(
        state=TrialState.RUNNING,
        params=dict(parameters),
        distributions={name: distribution_of(SPACE.parameters[name]) for name in parameters},
        constraints=constraints,
    )
    made.number, made.state = place, state
    if state.is_finished():
        made.datetime_complete, made.values = START + timedelta(seconds=place), None if value is None else [value]
    return made


def proposed(
    trials: Sequence[FrozenTrial], *, draw: int = 0, count: int = 1, direction: Direction = Direction.MINIMIZE
) -> list[Configuration]:
    return list(islice(generations(SPACE, direction, trials, startup=5, seed=7, draw=draw), count))


def searched(
    loss: Callable[[Configuration], float | None], budget: int, direction: Direction = Direction.MINIMIZE
) -> list[FrozenTrial]:
    trials: list[FrozenTrial] = []
    for place in range(budget):
        (found,) = proposed(trials, draw=place, direction=direction)
        trials.append(trial(place, found, loss(found)))
    return trials


def test_it_finds_numbers_and_choices_together() -> None:
    late = searched(bowl, 150)[-20:]
    losses = sorted(bowl(each.params) for each in late)
    assert losses[len(losses) // 2] < 0.1, "the start-up trials lose 0.9"
    assert sum(each.params["kind"] == "b" for each in late) > 10


def test_maximizing_it_looks_for_more() -> None:
    up, down = searched(lambda found: -bowl(found), 40, Direction.MAXIMIZE), searched(bowl, 40)
    assert [each.params for each in up] == [each.params for each in down]


def test_only_the_order_in_which_trials_ended_matters() -> None:
    trials = searched(bowl, 40)
    assert proposed(trials[::-1]) == proposed(trials)
    assert proposed([*trials, trial(40, trials[0].params, None, TrialState.RUNNING)]) == proposed(trials)


def test_a_generation_that_is_not_full_moves_nothing() -> None:
    trials = searched(bowl, 5 + 8)
    assert proposed(trials[:-1]) == proposed(trials[:5]), "of 5 dimensions a generation is 8"
    assert proposed(trials) != proposed(trials[:5])


def test_it_begins_at_the_best_of_the_start_up_trials() -> None:
    places: list[Configuration] = [{"x": 0.1 * place, "y": 0.01, "kind": "a", "n": 5} for place in range(1, 6)]
    trials = [trial(place, each, number(each, "x")) for place, each in enumerate(places)]
    near = [number(each, "x") for each in proposed(trials, count=100)]
    assert 0.1 < sorted(near)[50] < 0.3, "cut off at 0, around 0.1 with a deviation of 0.2"


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_what_measured_nothing_counts_as_the_worst(bad: float | None) -> None:
    trials = searched(lambda found: bowl(found) if number(found, "x") < 0.5 else bad, 100)
    late = [number(each.params, "x") for each in trials[-20:]]
    assert sum(x < 0.5 for x in late) > 15


def test_a_trial_that_could_not_run_counts_as_the_worst() -> None:
    trials = searched(bowl, 5)
    best = min(trials, key=lambda each: bowl(each.params))
    unfit = trial(best.number, best.params, bowl(best.params), TrialState.PRUNED, {"memory": 1.0})
    others = [each for each in trials if each is not best]
    assert proposed([*others, unfit]) != proposed(trials)
    assert proposed([*others, unfit]) == proposed([*others, trial(best.number, best.params, None)])


def test_where_all_is_equal_it_goes_on() -> None:
    trials = searched(lambda found: 0.0, 100)
    assert all(0.0 <= number(each.params, "x") <= 1.0 for each in trials)
    assert len({number(each.params, "x") for each in trials}) == 100
