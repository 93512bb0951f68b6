"""What is proposed: inside the space, never twice while there is a choice, the same for the same seed."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable
from typing import get_args

import optuna
import pytest
from sqlalchemy import text

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    ParameterValue,
    SearchSpace,
    canonical_key,
)
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.study.sections.space import SpaceSpec
from hpo_service.domain.trial.states import TrialState
from hpo_service.search.policy import ATTEMPTS, SearchPolicy, Suggestion
from hpo_service.search.samplers import SAMPLERS, Question
from hpo_service.search.studies import OptunaStudies
from hpo_service.storage.database import Database

NAME = "s/search"
ENDLESS = ("gp", "tpe", "cma-es", "nsga-ii", "random", "qmc")
MODELS = ("gp", "tpe")
LEARNING = (*MODELS, "cma-es")
"""CMA-ES learns from what it has drawn itself, generation by generation: tests/unit/search/evolution has what of."""
LORA = SpaceSpec().resolve()
SIXTY = SearchSpace(
    parameters={
        "rank": CategoricalParameter(choices=[4, 8, 16]),
        "depth": IntParameter(low=1, high=4),
        "drop": FloatParameter(low=0.0, high=0.4, step=0.1),
    }
)
CONDITIONAL = SearchSpace(
    parameters={
        "method": CategoricalParameter(choices=["lora", "full"]),
        "rank": CategoricalParameter(choices=[4, 8], when={"method": "lora"}),
        "alpha": IntParameter(low=1, high=3, when={"rank": [8]}),
        "decay": FloatParameter(low=0.0, high=0.1, when={"method": ["full"]}),
        "rate": FloatParameter(low=1e-5, high=1e-3, log=True),
    }
)


class Run:
    """A study worked through by one worker, without training anything."""

    def __init__(
        self, database: Database, studies: OptunaStudies, space: SearchSpace, search: SearchSpec, name: str = NAME
    ) -> None:
        self.database, self.studies, self.space, self.search, self.name = database, studies, space, search, name
        self.policy = SearchPolicy(database.url, database.session_source)
        self.suggestions: list[Suggestion] = []
        with database.transaction():
            studies.create(name, search.direction)

    def suggest(self) -> Suggestion | None:
        keys = {suggestion.key for suggestion in self.suggestions}
        return self.policy.suggest(self.name, self.search, self.space, keys.__contains__, len(self.suggestions))

    def step(self, objective: Callable[[dict[str, ParameterValue]], float]) -> float:
        suggestion = self.suggest()
        assert suggestion is not None
        value = objective(suggestion.parameters)
        with self.database.transaction():
            handle = self.studies.add_running(self.name, suggestion.parameters, self.space)
            self.studies.finish(handle.optuna_id, TrialState.COMPLETE, value, None)
        self.suggestions.append(suggestion)
        return value

    @property
    def keys(self) -> list[str]:
        return [suggestion.key for suggestion in self.suggestions]


def spec(sampler: str, **given: object) -> SearchSpec:
    return SearchSpec.model_validate({"sampler": sampler, **given})


def number(parameters: dict[str, ParameterValue], name: str) -> float:
    value = parameters[name]
    assert isinstance(value, int | float)
    return float(value)


def bowl(parameters: dict[str, ParameterValue]) -> float:
    return (math.log10(number(parameters, "learning_rate")) + 3.7) ** 2 + number(parameters, "lora_dropout")


def flat(parameters: dict[str, ParameterValue]) -> float:
    return 0.0


def test_the_table_holds_every_sampler_of_the_study_file_with_a_reason() -> None:
    assert set(SAMPLERS) == set(get_args(SearchSpec.model_fields["sampler"].annotation))
    assert all(sampler.reason for sampler in SAMPLERS.values())


@pytest.mark.parametrize("sampler", ENDLESS)
def test_one_worker_with_one_seed_repeats_itself_exactly(
    database: Database, studies: OptunaStudies, sampler: str
) -> None:
    search = SearchSpec.model_validate({"sampler": sampler, "seed": 7, "startup_trials": 3})
    runs = [Run(database, studies, LORA, search, name) for name in ("one/search", "two/search")]
    for run in runs:
        for _ in range(8):
            run.step(bowl)
    assert runs[0].keys == runs[1].keys
    assert len(set(runs[0].keys)) == 8


@pytest.mark.parametrize("sampler", ENDLESS)
def test_seed_and_draw_each_change_the_proposal(policy: SearchPolicy, sampler: str) -> None:
    def first(seed: int, draw: int) -> str:
        search = SearchSpec.model_validate({"sampler": sampler, "seed": seed, "startup_trials": 0})
        suggestion = policy.suggest(NAME, search, LORA, lambda key: False, draw)
        assert suggestion is not None
        return suggestion.key

    assert len({first(1, 0), first(2, 0), first(1, 1), first(2, 1)}) == 4
    assert first(1, 0) == first(1, 0)


@pytest.mark.parametrize("sampler", ENDLESS)
def test_conditions_are_respected(database: Database, studies: OptunaStudies, sampler: str) -> None:
    search = SearchSpec.model_validate({"sampler": sampler, "startup_trials": 4})
    run = Run(database, studies, CONDITIONAL, search)
    for _ in range(20):
        run.step(lambda parameters: number(parameters, "rate") + len(parameters))
    seen = set()
    for suggestion in run.suggestions:
        chosen = suggestion.parameters
        assert list(chosen) == [name for name, _ in CONDITIONAL.active(chosen)]
        seen.add(tuple(chosen))
    assert seen == {
        ("method", "decay", "rate"),
        ("method", "rank", "rate"),
        ("method", "rank", "alpha", "rate"),
    }


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_values_keep_their_type_and_stay_inside(database: Database, studies: OptunaStudies, sampler: str) -> None:
    space = SearchSpace(
        parameters={
            "flag": CategoricalParameter(choices=[True, False]),
            "depth": IntParameter(low=2, high=9, step=3),
            "width": IntParameter(low=1, high=64, log=True),
            "drop": FloatParameter(low=0.1, high=0.35, step=0.1),
            "fixed": FloatParameter(low=0.25, high=0.25),
        }
    )
    run = Run(database, studies, space, SearchSpec.model_validate({"sampler": sampler, "startup_trials": 2}))
    for _ in range(12):
        run.step(lambda parameters: number(parameters, "drop"))
    for suggestion in run.suggestions:
        chosen = suggestion.parameters
        assert [type(value) for value in chosen.values()] == [bool, int, int, float, float]
        assert chosen["depth"] in (2, 5, 8)
        assert 1 <= number(chosen, "width") <= 64
        assert chosen["drop"] in (0.1, 0.2, 0.3), "decimal, not 0.30000000000000004"
        assert chosen["fixed"] == 0.25


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sixty_trials_of_a_space_of_sixty_are_distinct_and_the_next_is_known_to_be_none(
    database: Database, studies: OptunaStudies, sampler: str
) -> None:
    search = SearchSpec.model_validate({"sampler": sampler})
    run = Run(database, studies, SIXTY, search)
    for _ in range(60):
        run.step(lambda parameters: number(parameters, "drop") * number(parameters, "rank"))
    assert len(set(run.keys)) == 60
    assert not any(suggestion.duplicate for suggestion in run.suggestions)
    after = run.suggest()
    if sampler == "grid":
        assert after is None
    else:
        assert after is not None
        assert after.duplicate
        assert after.key in run.keys


def test_a_conditional_space_runs_out_as_well(database: Database, studies: OptunaStudies) -> None:
    space = SearchSpace(parameters={n: p for n, p in CONDITIONAL.parameters.items() if n not in ("decay", "rate")})
    run = Run(database, studies, space, SearchSpec())
    for _ in range(5):
        run.step(flat)
    assert len(set(run.keys)) == 5
    after = run.suggest()
    assert after is not None
    assert after.duplicate


def test_an_endless_space_of_which_everything_is_called_taken_gives_up(policy: SearchPolicy) -> None:
    asked: list[str] = []

    def taken(key: str) -> bool:
        asked.append(key)
        return True

    suggestion = policy.suggest(NAME, SearchSpec(sampler="random"), LORA, taken, 0)
    assert suggestion is not None
    assert suggestion.duplicate
    assert suggestion.key == asked[0]
    assert len(asked) == len(set(asked)) == ATTEMPTS


def test_a_taken_proposal_is_replaced_by_another(policy: SearchPolicy) -> None:
    for sampler in ENDLESS:
        search = SearchSpec.model_validate({"sampler": sampler})
        first = policy.suggest(NAME, search, LORA, lambda key: False, 0)
        assert first is not None
        second = policy.suggest(NAME, search, LORA, {first.key}.__contains__, 0)
        assert second is not None
        assert second.key != first.key
        assert not second.duplicate


def test_the_key_is_the_canonical_one(policy: SearchPolicy) -> None:
    suggestion = policy.suggest(NAME, SearchSpec(), LORA, lambda key: False, 0)
    assert suggestion is not None
    assert suggestion.key == canonical_key(suggestion.parameters)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling_writes_nothing(database: Database, studies: OptunaStudies, sampler: str) -> None:
    run = Run(database, studies, SIXTY, SearchSpec.model_validate({"sampler": sampler, "startup_trials": 2}))
    for _ in range(4):
        run.step(flat)
    with database.transaction():
        studies.add_running(NAME, run.suggestions[0].parameters, SIXTY)

    def dump() -> list[object]:
        with database.transaction():
            tables = optuna.storages._rdb.models.BaseModel.metadata.sorted_tables
            return [database.connection.execute(text(f"SELECT * FROM {table.name}")).all() for table in tables]

    before = dump()
    assert run.suggest() is not None
    assert dump() == before


def test_samplers_that_do_not_learn_do_not_read() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    policy = SearchPolicy(database.url, database.session_source)
    for sampler in ("random", "grid", "qmc"):
        search = SearchSpec.model_validate({"sampler": sampler})
        assert policy.suggest(NAME, search, SIXTY, lambda key: False, 0) is not None


@pytest.mark.parametrize("sampler", MODELS)
def test_a_model_beats_random_on_a_smooth_function(sampler: str, database: Database, studies: OptunaStudies) -> None:
    def late(sampler: str, seed: int) -> float:
        search = SearchSpec.model_validate({"sampler": sampler, "seed": seed})
        run = Run(database, studies, LORA, search, f"{sampler}/{seed}")
        return statistics.mean([run.step(bowl) for _ in range(30)][15:])

    seeds = range(3)
    assert statistics.mean(late(sampler, s) for s in seeds) < 0.5 * statistics.mean(late("random", s) for s in seeds)


@pytest.mark.parametrize("state,value", [(TrialState.PRUNED, None), (TrialState.INFEASIBLE, None)])
@pytest.mark.parametrize("sampler", MODELS)
def test_a_model_learns_from_trials_that_ended_early(
    sampler: str,
    database: Database,
    studies: OptunaStudies,
    policy: SearchPolicy,
    state: TrialState,
    value: float | None,
) -> None:
    """Three quarters of the range end early and badly: hardly anything is proposed there any more."""
    space = SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)})
    search = spec(sampler, startup_trials=5)
    with database.transaction():
        for place in range(40):
            x = place / 40
            handle = studies.add_running(NAME, {"x": x}, space)
            bad = x > 0.25
            studies.report(handle.optuna_id, 2, 9.0 if bad else 1.0 + x)
            if bad:
                studies.finish(handle.optuna_id, state, value, None)
            else:
                studies.finish(handle.optuna_id, TrialState.PRUNED, None, -1.0)
    found = [policy.suggest(NAME, search, space, lambda key: False, draw) for draw in range(40, 60)]
    places = [number(suggestion.parameters, "x") for suggestion in found if suggestion is not None]
    assert statistics.mean(x < 0.3 for x in places) > 0.8


@pytest.mark.parametrize("sampler", MODELS)
def test_a_model_takes_stopped_trials_for_bad_where_they_reported_another_measure(
    sampler: str, database: Database, studies: OptunaStudies
) -> None:
    """A metric is maximised, and the losses that stopped trials reported are larger numbers than any of its values."""
    space = SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)})
    search, name = spec(sampler, startup_trials=5, direction="maximize"), "metric/search"
    studies.create(name, Direction.MAXIMIZE)
    with database.transaction():
        for place in range(40):
            x = place / 40
            handle = studies.add_running(name, {"x": x}, space)
            studies.report(handle.optuna_id, 2, 9.0 if x > 0.25 else 3.0)
            if x > 0.25:
                studies.finish(handle.optuna_id, TrialState.PRUNED, None, None, or_last=False)
            else:
                studies.finish(handle.optuna_id, TrialState.COMPLETE, 0.5 - x, None)
    policy = SearchPolicy(database.url, database.session_source)
    found = [policy.suggest(name, search, space, lambda key: False, draw) for draw in range(40, 60)]
    places = [number(suggestion.parameters, "x") for suggestion in found if suggestion is not None]
    assert statistics.mean(x < 0.3 for x in places) > 0.8


@pytest.mark.parametrize("sampler", LEARNING)
def test_a_model_never_hears_of_failed_trials(
    sampler: str, database: Database, studies: OptunaStudies, policy: SearchPolicy
) -> None:
    before = policy.suggest(NAME, spec(sampler, startup_trials=1), LORA, lambda key: False, 3)
    assert before is not None
    assert before.role == "start-up"
    with database.transaction():
        for _ in range(5):
            handle = studies.add_running(NAME, before.parameters, LORA)
            studies.finish(handle.optuna_id, TrialState.FAILED, None, None)
    assert policy.suggest(NAME, spec(sampler, startup_trials=1), LORA, lambda key: False, 3) == before


def test_tpe_keeps_away_from_what_is_running(database: Database, studies: OptunaStudies, policy: SearchPolicy) -> None:
    space = SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)})
    with database.transaction():
        for x in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
            handle = studies.add_running(NAME, {"x": x}, space)
            studies.finish(handle.optuna_id, TrialState.COMPLETE, abs(x - 0.3), None)

    def near(draws: range) -> float:
        found = [
            policy.suggest(
                NAME,
                spec("tpe"),
                space,
                lambda key: False,
                draw,
            )
            for draw in draws
        ]
        return statistics.mean(abs(number(s.parameters, "x") - 0.3) < 0.04 for s in found if s is not None)

    alone = near(range(100, 140))
    with database.transaction():
        for x in (0.28, 0.29, 0.3, 0.31, 0.32):
            studies.add_running(NAME, {"x": x}, space)
    assert near(range(100, 140)) < alone


def test_the_process_tries_no_configuration_that_is_as_good_as_running(
    database: Database, studies: OptunaStudies, policy: SearchPolicy
) -> None:
    space = SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)})
    with database.transaction():
        for x in (0.1, 0.25, 0.4, 0.6, 0.8):
            handle = studies.add_running(NAME, {"x": x}, space)
            studies.finish(handle.optuna_id, TrialState.COMPLETE, (x - 0.3) ** 2, None)
    running: list[float] = []
    for draw in range(5, 9):
        found = policy.suggest(NAME, spec("gp"), space, lambda key: False, draw)
        assert found is not None
        x = number(found.parameters, "x")
        running.append(x)
        with database.transaction():
            studies.add_running(NAME, found.parameters, space)
    assert len(set(running)) == 4, "what is expected of the first is reckoned with for the next"


@pytest.mark.parametrize("sampler", LEARNING)
def test_maximizing_looks_for_more(sampler: str, database: Database, studies: OptunaStudies) -> None:
    space = SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)})
    run = Run(database, studies, space, spec(sampler, direction="maximize"), "up/search")
    for _ in range(25):
        run.step(lambda parameters: number(parameters, "x"))
    assert statistics.mean(number(s.parameters, "x") for s in run.suggestions[15:]) > 0.8


@pytest.mark.parametrize("sampler", LEARNING)
def test_a_planned_configuration_outside_the_space_stops_no_model(
    sampler: str, database: Database, studies: OptunaStudies
) -> None:
    run = Run(database, studies, LORA, spec(sampler, startup_trials=2))
    with database.transaction():
        outside: dict[str, ParameterValue] = {"learning_rate": 0.1, "lora_rank": 64, "lora_dropout": 0.5}
        handle = studies.add_running(NAME, outside, LORA)
        studies.finish(handle.optuna_id, TrialState.COMPLETE, 1.0, None)
    for _ in range(5):
        run.step(bowl)
    assert all(s.parameters["lora_rank"] in (4, 8, 16, 32) for s in run.suggestions)
    assert all(5e-5 <= number(s.parameters, "learning_rate") <= 5e-4 for s in run.suggestions)


def test_nothing_is_printed_and_nobody_is_warned(
    database: Database, studies: OptunaStudies, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sampler in ENDLESS:
            search = SearchSpec.model_validate({"sampler": sampler, "startup_trials": 2})
            run = Run(database, studies, CONDITIONAL, search, f"quiet/{sampler}")
            for _ in range(4):
                run.step(lambda parameters: number(parameters, "rate"))
    assert capfd.readouterr() == ("", "")


def test_a_stream_of_candidates_does_not_repeat_itself() -> None:
    question = Question(SearchSpec(), LORA, 0)
    for name in ENDLESS:
        stream = SAMPLERS[name].candidates(question)
        assert len({canonical_key(next(stream)) for _ in range(10)}) == 10


def test_in_a_space_that_is_used_up_the_sampler_is_asked_once(
    database: Database, studies: OptunaStudies, policy: SearchPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Question, "seed", lambda self, attempt: asked.append(attempt) or attempt)
    suggestion = policy.suggest(NAME, SearchSpec(sampler="tpe"), SIXTY, lambda key: True, SIXTY.size() or 0)
    assert suggestion is not None
    assert suggestion.duplicate
    assert asked == [0]


@pytest.mark.parametrize("sampler", LEARNING)
def test_start_up_trials_may_be_more_than_the_model_looks_at(
    sampler: str, database: Database, studies: OptunaStudies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo_service.search.reader.LATEST", 5)
    run = Run(database, studies, LORA, spec(sampler, startup_trials=12))
    for _ in range(14):
        run.step(bowl)
    assert [each.role for each in run.suggestions] == ["start-up"] * 12 + [sampler] * 2
