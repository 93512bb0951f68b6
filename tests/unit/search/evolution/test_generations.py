"""NSGA-II finds its generations in the order in which trials ended, whoever proposed them."""

from __future__ import annotations

import statistics
from datetime import datetime, timedelta

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import FloatParameter, SearchSpace
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.search.distributions import distribution_of
from hpo_service.search.evolution.generations import NSGA2, POPULATION, in_generations
from hpo_service.search.samplers import SAMPLERS, Question

SPACE = SearchSpace(parameters={name: FloatParameter(low=0.0, high=1.0) for name in "abcd"})
DOMAIN = {name: distribution_of(parameter) for name, parameter in SPACE.parameters.items()}
BEGIN = datetime(2026, 1, 1)


def trial(
    number: int, place: float, values: list[float] | None, state: TrialState = TrialState.COMPLETE, minute: int = -1
) -> FrozenTrial:
    """A trial with all parameters at one place that ended in this minute, by default in the order of the numbers."""
    made = create_trial(state=state, values=values, params=dict.fromkeys(SPACE.parameters, place), distributions=DOMAIN)
    made.number = number
    made.datetime_start = BEGIN
    made.datetime_complete = BEGIN + timedelta(minutes=number if minute < 0 else minute)
    return made


def generation(found: FrozenTrial) -> int:
    return int(found.system_attrs[NSGA2._get_generation_key()])


def test_who_ended_first_belongs_to_the_first_generation() -> None:
    late = trial(0, 0.5, [1.0], minute=1000)
    others = [trial(number, 0.5, [1.0]) for number in range(1, POPULATION + 1)]
    running = create_trial(state=TrialState.RUNNING, params=others[0].params, distributions=DOMAIN)
    found = in_generations([late, *others, running], Direction.MINIMIZE, 1)
    assert [(each.number, generation(each)) for each in found] == [
        *((number, 0) for number in range(1, POPULATION + 1)),
        (0, 1),
    ]
    assert late.system_attrs == {}, "what was read stays as it is"
    assert len({each._trial_id for each in found}) == len(found)


@pytest.mark.parametrize("direction, worst", [(Direction.MINIMIZE, 3.0), (Direction.MAXIMIZE, 1.0)])
def test_who_was_stopped_counts_as_the_worst(direction: Direction, worst: float) -> None:
    given = [trial(0, 0.1, [1.0]), trial(1, 0.2, [3.0]), trial(2, 0.3, None, TrialState.PRUNED)]
    assert [each.values for each in in_generations(given, direction, 1)] == [[1.0], [3.0], [worst]]


def proposals(question: Question, count: int = 20) -> list[dict[str, float]]:
    candidates = SAMPLERS["nsga-ii"].candidates(question)
    return [{name: float(value) for name, value in next(candidates).items()} for _ in range(count)]


def test_parents_are_on_the_front_of_several_goals() -> None:
    # the first half is better in both goals than the second, and none in it than another
    best = [trial(n, n / 64, [n / 100, 1 - n / 100]) for n in range(POPULATION)]
    worse = [trial(POPULATION + n, 0.75 + n / 64, [2.0, 2.0]) for n in range(POPULATION)]
    search = SearchSpec.model_validate({"sampler": "nsga-ii", "goals": ["loss", "seconds"]})
    found = proposals(Question(search, SPACE, len(best + worse), [*best, *worse]))
    places = [value for each in found for value in each.values()]
    assert statistics.mean(value in {n / 64 for n in range(POPULATION)} for value in places) > 0.6
    assert not {0.75 + n / 64 for n in range(POPULATION)} & set(places)


def test_before_a_generation_has_ended_all_is_random() -> None:
    search = SearchSpec.model_validate({"sampler": "nsga-ii"})
    few = [trial(number, 0.5, [1.0]) for number in range(POPULATION - 1)]
    places = [value for each in proposals(Question(search, SPACE, len(few), few)) for value in each.values()]
    assert len(set(places)) == len(places)
    enough = [*few, trial(POPULATION, 0.5, [1.0])]
    crossed = [value for each in proposals(Question(search, SPACE, len(enough), enough)) for value in each.values()]
    assert statistics.mean(value == 0.5 for value in crossed) > 0.6


def test_a_configuration_that_broke_a_limit_is_no_parent_while_others_are() -> None:
    kept = [trial(number, 0.25, [1.0, 1.0]) for number in range(POPULATION)]
    broken = [trial(POPULATION + number, 0.75, [0.1, 0.1]) for number in range(POPULATION)]
    for each in broken:
        each.system_attrs = {"constraints:seconds": 0.5}
    search = SearchSpec.model_validate({"sampler": "nsga-ii", "goals": ["loss", "seconds"]})
    found = proposals(Question(search, SPACE, 2 * POPULATION, [*kept, *broken]))
    places = [value for each in found for value in each.values()]
    assert statistics.mean(value == 0.25 for value in places) > 0.6
    assert 0.75 not in places
