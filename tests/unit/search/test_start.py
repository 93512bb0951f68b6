"""Where a search begins: the default, what was enqueued, and points that fill the space."""

from __future__ import annotations

import math
from itertools import islice

import pytest

from hpo_service.domain.decide.start.beginning import Beginning
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    ParameterValue,
    SearchSpace,
    canonical_key,
)
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.study.sections.space import SpaceSpec
from hpo_service.domain.trial.states import TrialState
from hpo_service.search.policy import SearchPolicy, Suggestion
from hpo_service.search.quasirandom import halton
from hpo_service.search.studies import OptunaStudies
from hpo_service.storage.database import Database

NAME = "s/search"
LORA = SpaceSpec().resolve()
FIRST = [
    Beginning("default", {"learning_rate": 2e-4, "lora_rank": 16}),
    Beginning("enqueued 1", {"learning_rate": 1e-4, "lora_rank": 8}),
]
SMALL = SearchSpace(
    parameters={
        "learning_rate": FloatParameter(low=5e-5, high=5e-4, log=True),
        "lora_rank": CategoricalParameter(choices=[8, 16]),
    }
)


def asked(
    policy: SearchPolicy, search: SearchSpec, space: SearchSpace, taken: set[str], draw: int, first: list[Beginning]
) -> Suggestion:
    """What is proposed; it is taken from then on."""
    suggestion = policy.suggest(NAME, search, space, taken.__contains__, draw, first)
    assert suggestion is not None
    taken.add(suggestion.key)
    return suggestion


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_the_default_and_what_was_enqueued_come_first_whatever_the_sampler(policy: SearchPolicy, sampler: str) -> None:
    search = SearchSpec.model_validate({"sampler": sampler})
    taken: set[str] = set()
    found = [asked(policy, search, SMALL, taken, draw, FIRST) for draw in range(3)]
    assert [each.parameters for each in found[:2]] == [each.parameters for each in FIRST]
    assert [each.role for each in found[:2]] == ["default", "enqueued 1"]
    assert found[2].role == ("start-up" if sampler == "tpe" else sampler)


def test_start_up_trials_come_after_what_the_search_begins_with(
    database: Database, studies: OptunaStudies, policy: SearchPolicy
) -> None:
    taken, labels = set[str](), list[str]()
    for draw in range(6):
        found = asked(policy, SearchSpec(startup_trials=3), SMALL, taken, draw, FIRST)
        labels.append(found.role)
        with database.transaction():
            handle = studies.add_running(NAME, found.parameters, SMALL)
            studies.finish(handle.optuna_id, TrialState.COMPLETE, float(draw), None)
    assert labels == ["default", "enqueued 1", "start-up", "start-up", "start-up", "gp"]


def test_a_claim_that_lost_its_race_leaves_out_nothing_that_was_to_come_first(policy: SearchPolicy) -> None:
    taken = {canonical_key(FIRST[0].parameters)}
    assert asked(policy, SearchSpec(), SMALL, taken, 5, FIRST).role == "enqueued 1"


def test_a_grid_begins_with_the_default_and_comes_to_it_once(policy: SearchPolicy) -> None:
    space = SearchSpace(parameters={"lora_rank": CategoricalParameter(choices=[4, 8, 16])})
    search, taken = SearchSpec(sampler="grid"), set[str]()
    found = [asked(policy, search, space, taken, draw, [Beginning("default", {"lora_rank": 8})]) for draw in range(3)]
    assert sorted(int(each.parameters["lora_rank"]) for each in found) == [4, 8, 16]
    assert [each.role for each in found] == ["default", "grid", "grid"]
    assert policy.suggest(NAME, search, space, taken.__contains__, 3) is None


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_start_up_trials_are_the_points_of_one_sequence_whatever_the_number_of_workers(
    database: Database, studies: OptunaStudies, policy: SearchPolicy, workers: int
) -> None:
    search, taken, labels = SearchSpec(startup_trials=8), set[str](), list[str]()
    held: list[dict[str, ParameterValue]] = []
    while len(taken) < 8 or labels[-1] == "start-up":
        found = asked(policy, search, LORA, taken, len(taken), [])
        labels.append(found.role)
        held.append(found.parameters)
        if len(held) == workers:
            with database.transaction():
                handle = studies.add_running(NAME, held.pop(0), LORA)
                studies.finish(handle.optuna_id, TrialState.COMPLETE, 1.0, None)
    filling = labels.count("start-up")
    assert filling == 8 + workers - 1, "until so many have ended, and more are under way by then"
    expected = {canonical_key(point) for point in islice(halton(LORA, seed=search.seed, start=0), filling)}
    assert expected <= taken


def test_with_any_seed_the_first_five_reach_both_ends_of_the_learning_rate(policy: SearchPolicy) -> None:
    for seed in range(30):
        taken: set[str] = set()
        found = [asked(policy, SearchSpec(seed=seed), LORA, taken, draw, []) for draw in range(5)]
        places = [math.log(float(each.parameters["learning_rate"]) / 5e-5) / math.log(10) for each in found]
        assert min(places) < 0.3
        assert max(places) > 0.7


def test_a_claim_that_collided_takes_the_point_that_was_passed_over(policy: SearchPolicy) -> None:
    points = [canonical_key(each) for each in islice(halton(LORA, seed=42, start=0), 4)]
    taken = {points[0], points[2]}
    assert asked(policy, SearchSpec(), LORA, taken, 3, []).key == points[1]


def test_a_space_that_start_up_trials_have_used_up_gives_a_duplicate(policy: SearchPolicy) -> None:
    space = SearchSpace(parameters={"lora_rank": CategoricalParameter(choices=[4, 8])})
    taken: set[str] = set()
    found = [asked(policy, SearchSpec(), space, taken, draw, []) for draw in range(3)]
    assert [each.duplicate for each in found] == [False, False, True]


@pytest.mark.parametrize("sampler", ["gp", "random"])
def test_a_search_has_enough_when_little_is_left_to_gain_and_says_so(
    database: Database, studies: OptunaStudies, policy: SearchPolicy, sampler: str
) -> None:
    space = SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)})
    with database.transaction():
        for place in range(12):
            handle = studies.add_running(NAME, {"x": place / 11}, space)
            studies.finish(handle.optuna_id, TrialState.COMPLETE, (place / 11 - 0.3) ** 2, None)
    asked_for = SearchSpec.model_validate({"sampler": sampler, "stop_when_gain_below": 0.05})
    reason = policy.enough(NAME, asked_for, space, 12, 20)
    assert reason is not None
    assert reason.startswith("after 12 trials the 8 that are left are expected to improve on the best by at most ")
    assert reason.endswith("which is below search.stop_when_gain_below, 0.05")
    assert policy.enough(NAME, asked_for, space, 5, 20) is None, "too few were drawn"
    assert policy.enough(NAME, SearchSpec(startup_trials=12, stop_when_gain_below=0.05), space, 20, 20) is None
    assert policy.enough(NAME, SearchSpec(stop_when_gain_below=1e-12), space, 12, 20) is None
    assert policy.enough(NAME, SearchSpec(), space, 12, 20) is None
