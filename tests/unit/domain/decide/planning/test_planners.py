"""What the next stage consists of."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_service.domain.decide.planning.carry_over import plan_carried
from hpo_service.domain.decide.planning.compare import CONFIRM_SEED_OFFSET, plan_comparison
from hpo_service.domain.decide.planning.default import default_parameters
from hpo_service.domain.decide.planning.plan import Plan, Results, enclosing_space
from hpo_service.domain.decide.planning.planners import PLANNERS
from hpo_service.domain.decide.selection import Measured
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.presets import PRESETS
from hpo_service.domain.study.protocol import CONFIRM, PROTOCOLS, SEARCH, STAGES, VERIFY
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
    canonical_key,
)
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts

FACTS = {
    "small": ModelFacts(family="llama", hidden_size=64),
    "large": ModelFacts(family="llama", hidden_size=256),
}
CONFIG: dict[str, ParameterValue] = {"learning_rate": 4e-4, "lora_rank": 8, "lora_alpha_multiplier": 2}


def spec(**sections: Any) -> StudySpec:
    """A study with a small and a large model."""
    transfer = {"control": False, **sections.pop("transfer", {})}
    models = {"base": "small", "target": "large"}
    given = {"name": "s", "model": models, "data": {"source": "rows.jsonl"}, "transfer": transfer, **sections}
    return StudySpec.model_validate(given)


def own(**sections: Any) -> StudySpec:
    """A study with an objective of its user's own."""
    space = {"parameters": {"x": {"low": 0.0, "high": 1.0}, "depth": {"low": 1, "high": 9}}}
    return StudySpec.model_validate({"name": "s", "objective": {"python": "m:f"}, "space": space, **sections})


def measured(*values: float, complete: bool = True, **parameters: ParameterValue) -> list[Measured]:
    """Search results, each with its own learning rate."""
    return [
        Measured(100 + i, i, {**CONFIG, "learning_rate": 1e-4 * (i + 1), **parameters}, value, complete)
        for i, value in enumerate(values)
    ]


def plan_verify(study: StudySpec, results: Sequence[Measured], facts: Mapping[str, ModelFacts]) -> Plan | None:
    """What follows on a search with these results."""
    return plan_carried(VERIFY, study, Results(SEARCH.name, results, facts))


def plan_confirm(study: StudySpec, results: Sequence[Measured]) -> Plan | None:
    """What is run to prove these results."""
    return plan_comparison(CONFIRM, study, Results(VERIFY.name, results, {}))


def test_every_stage_that_is_planned_has_a_planner() -> None:
    assert {rule.plan for rule in STAGES.values() if not rule.proposes} <= PLANNERS.keys()
    assert {rule.plan for rule in STAGES.values()} - {""} == PLANNERS.keys()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_begins_by_itself_and_goes_on_by_plans(protocol: str) -> None:
    first, *others = PROTOCOLS[protocol].stages
    assert first.proposes != bool(first.plan)
    assert all(rule.plan for rule in others)


# verify


def test_the_best_configurations_are_carried_over_each_at_every_step_of_the_bracket() -> None:
    plan = plan_verify(spec(transfer={"top": 2}), measured(1.3, 1.1, 1.2, 1.4), FACTS)
    assert plan is not None
    assert [trial.label for trial in plan.trials] == [
        f"search #{number}, lr x {factor:g}" for number in (1, 2) for factor in (0.5, 1, 2)
    ]
    assert [trial.origin_id for trial in plan.trials] == [101] * 3 + [102] * 3
    assert {trial.role for trial in plan.trials} == {"carried"}


def test_rank_and_learning_rate_are_scaled_and_the_rest_is_copied() -> None:
    plan = plan_verify(spec(), measured(1.0, weight_decay=0.05), FACTS)
    assert plan is not None
    rates = [trial.parameters["learning_rate"] for trial in plan.trials]
    by_rank = 2**-0.5  # the rank doubles, and alpha with it
    assert rates == pytest.approx([0.25e-4 * by_rank, 0.5e-4 * by_rank, 1e-4 * by_rank])
    for trial in plan.trials:
        rest = {name: value for name, value in trial.parameters.items() if name != "learning_rate"}
        assert rest == {"lora_rank": 16, "lora_alpha_multiplier": 2, "weight_decay": 0.05}


def test_every_carried_configuration_says_why_it_is_as_it_is() -> None:
    plan = plan_verify(spec(), measured(1.0), FACTS)
    assert plan is not None
    assert "(64/256)^0.5" in plan.trials[0].reason
    assert plan.trials[0].reason.endswith("then x 0.5")
    assert "#0 (1.0000)" in plan.reason


def test_a_configuration_that_two_origins_lead_to_is_run_once() -> None:
    origins = [
        Measured(1, 0, {**CONFIG, "learning_rate": 1e-4}, 1.0),
        Measured(2, 1, {**CONFIG, "learning_rate": 2e-4}, 1.1),
    ]
    plan = plan_verify(spec(), origins, FACTS)
    assert plan is not None
    assert len(plan.trials) == 4
    assert [trial.origin_id for trial in plan.trials] == [1, 1, 1, 2]


def test_a_bracket_is_tried_in_rising_order_with_the_labels_that_belong_to_it() -> None:
    plan = plan_verify(spec(transfer={"bracket": [3, 0.25]}), measured(1.0), FACTS)
    assert plan is not None
    assert [trial.label.rpartition(" ")[2] for trial in plan.trials] == ["0.25", "3"]
    assert [trial.parameters["learning_rate"] for trial in plan.trials] == pytest.approx(
        [0.125e-4 / 2**0.5, 1.5e-4 / 2**0.5]
    )


def test_on_one_and_the_same_model_the_winner_itself_is_tried_in_the_middle_of_the_bracket() -> None:
    plan = plan_verify(spec(model={"base": "small", "target": "small"}), measured(1.0), FACTS)
    assert plan is not None
    middle = next(trial for trial in plan.trials if trial.label.endswith("x 1"))
    assert middle.parameters == measured(1.0)[0].parameters
    assert "base and target are one model" in middle.reason


def test_trials_that_were_stopped_early_are_not_carried_over() -> None:
    assert plan_verify(spec(), measured(1.0, 2.0, complete=False), FACTS) is None
    assert plan_verify(spec(), [], FACTS) is None


def test_verifying_needs_a_target_and_facts_about_both_models() -> None:
    with pytest.raises(ValueError, match="study s has no target"):
        plan_verify(spec(model={"base": "small"}), measured(1.0), FACTS)
    with pytest.raises(ValueError, match="model large"):
        plan_verify(spec(), measured(1.0), {"small": FACTS["small"]})


# confirm


def test_winner_and_default_run_with_the_same_new_seeds() -> None:
    plan = plan_confirm(spec(search={"seed": 7}, confirm={"seeds": 3}), measured(1.3, 1.1))
    assert plan is not None
    seeds = [7 + CONFIRM_SEED_OFFSET + i for i in range(3)]
    assert [(trial.label, trial.seed) for trial in plan.trials] == [
        (label, seed) for seed in seeds for label in ("winner 1", "default")
    ]
    assert {trial.role for trial in plan.trials} == {"winner", "default"}
    assert all(trial.score_test and trial.keep_adapter for trial in plan.trials)
    assert [trial.origin_id for trial in plan.trials[:2]] == [101, None]


def test_several_winners_may_be_confirmed() -> None:
    plan = plan_confirm(spec(confirm={"top": 2, "seeds": 2}), measured(1.3, 1.1, 1.2))
    assert plan is not None
    assert [trial.label for trial in plan.trials] == ["winner 1", "winner 2", "default"] * 2
    assert [trial.origin_id for trial in plan.trials[:2]] == [101, 102]


def test_the_highest_wins_where_the_study_maximises() -> None:
    study = own(search={"direction": "maximize"})
    results = [Measured(i, i, {"x": i / 10}, float(i)) for i in range(3)]
    plan = plan_confirm(study, results)
    assert plan is not None
    assert plan.trials[0].parameters == {"x": 0.2}


def test_an_objective_without_a_default_has_nothing_to_be_compared_with() -> None:
    plan = plan_confirm(own(), [Measured(1, 0, {"x": 0.5, "depth": 3}, 1.0)])
    assert plan is not None
    assert {trial.label for trial in plan.trials} == {"winner 1"}


def test_without_a_complete_trial_there_is_nothing_to_confirm() -> None:
    assert plan_confirm(spec(), measured(1.0, complete=False)) is None


# the configuration to beat


def test_the_default_is_the_practitioners_value_of_each_searched_parameter() -> None:
    assert default_parameters(spec(), {**CONFIG, "warmup_ratio": 0.07}) == {
        "learning_rate": 2e-4,
        "lora_rank": 16,
        "lora_alpha_multiplier": 1.0,
        "warmup_ratio": 0.03,
    }


def test_a_searched_alpha_is_compared_with_the_practitioners_alpha() -> None:
    assert default_parameters(spec(), {"lora_alpha": 64.0}) == {"lora_alpha": 16.0}


def test_what_the_study_names_as_default_stands_and_may_say_more_than_was_searched() -> None:
    study = spec(confirm={"default": {"learning_rate": 1e-4, "weight_decay": 0.0}})
    assert default_parameters(study, {"learning_rate": 3e-4, "lora_rank": 8}) == {
        "learning_rate": 1e-4,
        "lora_rank": 16,
        "weight_decay": 0.0,
    }


@pytest.mark.parametrize(
    "default, searched",
    [({"lora_alpha": 32.0}, {"lora_alpha_multiplier": 2}), ({"lora_alpha_multiplier": 2.0}, {"lora_alpha": 64.0})],
)
def test_alpha_is_said_once_whichever_way_it_was_searched(
    default: dict[str, ParameterValue], searched: dict[str, ParameterValue]
) -> None:
    study = spec(confirm={"default": default})
    found = default_parameters(study, {"lora_rank": 8, **searched})
    assert found == {"lora_rank": 16, **default}
    assert study.training.hyperparameters().with_values(found).alpha == 32.0


def test_an_objectives_default_takes_what_it_leaves_out_from_the_winner() -> None:
    assert default_parameters(own(), {"x": 0.2, "depth": 3}) is None
    assert default_parameters(own(confirm={"default": {"x": 0.5}}), {"x": 0.2, "depth": 3}) == {"x": 0.5, "depth": 3}


# the space of a plan

VALUES = st.one_of(
    st.booleans(), st.integers(-1000, 1000), st.floats(-1e6, 1e6, allow_nan=False), st.sampled_from(["adam", "sgd", ""])
)
CONFIGURATIONS = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), max_size=6)


def _holds(parameter: Parameter, value: ParameterValue) -> bool:
    if isinstance(parameter, CategoricalParameter):
        # in choices 1 and 1.0 are one, and True is neither
        return (isinstance(value, bool), value) in [(isinstance(each, bool), each) for each in parameter.choices]
    if isinstance(value, bool | str) or (isinstance(parameter, IntParameter) and not isinstance(value, int)):
        return False
    return parameter.low <= value <= parameter.high


@given(CONFIGURATIONS)
def test_the_enclosing_space_holds_every_configuration_and_no_more_parameters(
    configurations: list[dict[str, ParameterValue]],
) -> None:
    space = enclosing_space(configurations)
    assert set(space.parameters) == {name for configuration in configurations for name in configuration}
    for name, value in itertools.chain.from_iterable(configuration.items() for configuration in configurations):
        assert _holds(space.parameters[name], value)


@given(CONFIGURATIONS)
def test_the_enclosing_space_is_the_smallest(configurations: list[dict[str, ParameterValue]]) -> None:
    for name, parameter in enclosing_space(configurations).parameters.items():
        seen = [configuration[name] for configuration in configurations if name in configuration]
        if isinstance(parameter, CategoricalParameter):
            assert {(type(c), c) for c in parameter.choices} == {(type(v), v) for v in seen}
        else:
            assert {parameter.low, parameter.high} <= set(seen)


@pytest.mark.parametrize(
    "values, expected",
    [
        ([8, 16, 8], IntParameter(low=8, high=16)),
        ([1, 2.5], FloatParameter(low=1.0, high=2.5)),
        ([1, 1.0], FloatParameter(low=1.0, high=1.0)),
        ([True, 1], CategoricalParameter(choices=[True, 1])),
        (["a", 1], CategoricalParameter(choices=["a", 1])),
        ([True], CategoricalParameter(choices=[True])),
    ],
)
def test_the_kind_of_a_parameter_follows_from_its_values(values: list[ParameterValue], expected: Parameter) -> None:
    assert enclosing_space([{"x": value} for value in values]).parameters == {"x": expected}


# every plan can be run


def _sampled(space: SearchSpace) -> st.SearchStrategy[dict[str, ParameterValue]]:
    def values(parameter: Parameter) -> st.SearchStrategy[ParameterValue]:
        if isinstance(parameter, CategoricalParameter):
            return st.sampled_from(parameter.choices)
        if isinstance(parameter, IntParameter):
            return st.integers(parameter.low, parameter.high)
        return st.floats(parameter.low, parameter.high)

    return st.fixed_dictionaries({name: values(parameter) for name, parameter in space.parameters.items()})


def _searched(preset: str) -> st.SearchStrategy[tuple[str, list[dict[str, ParameterValue]]]]:
    space = SearchSpace(parameters=PRESETS[preset].parameters)
    return st.tuples(st.just(preset), st.lists(_sampled(space), max_size=6))


SEARCHED = st.sampled_from([name for name in PRESETS if name != "none"]).flatmap(_searched)


def _runnable(study: StudySpec, plan: Plan) -> None:
    for trial in plan.trials:
        resolved = study.training.hyperparameters().with_values(trial.parameters)
        assert isinstance(resolved, Hyperparameters)
        for name, value in trial.parameters.items():
            parameter = plan.space.parameters[name]
            assert isinstance(parameter, CategoricalParameter) or parameter.low <= float(value) <= parameter.high
        assert trial.reason


@settings(max_examples=40)
@given(SEARCHED, st.integers(16, 8192), st.integers(16, 8192))
def test_whatever_was_searched_every_planned_trial_can_be_run(
    searched: tuple[str, list[Mapping[str, ParameterValue]]], small: int, large: int
) -> None:
    preset, configurations = searched
    study = spec(space={"preset": preset})
    results = [Measured(i, i, dict(c), float(i % 3)) for i, c in enumerate(configurations)]
    facts = {
        "small": ModelFacts(family="llama", hidden_size=small),
        "large": ModelFacts(family="qwen", hidden_size=large),
    }
    verify = plan_verify(study, results, facts)
    assert (verify is None) == (not configurations)
    if verify is not None:
        _runnable(study, verify)
        assert len({canonical_key(trial.parameters) for trial in verify.trials}) == len(verify.trials)
        confirm = plan_confirm(study, [Measured(t.seed, i, t.parameters, 1.0) for i, t in enumerate(verify.trials)])
        assert confirm is not None
        _runnable(study, confirm)
