"""The rules of a study that go across its sections; each refusal names its place."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.protocol import VERIFY, stages_of
from hpo_service.domain.study.search_space import FloatParameter, IntParameter
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.objective import ObjectiveSpec, placeholders_in
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.spec import StudySpec

GOOD: dict[str, Any] = {"name": "x", "model": {"base": "a/small"}, "data": {"source": "c/rows"}}
OWN: dict[str, Any] = {
    "name": "x",
    "objective": {"command": "train --lr {lr}"},
    "space": {"parameters": {"lr": {"low": 0.1, "high": 1}}},
}


def study(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({**GOOD, **sections}, strict=True)


def own(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({**OWN, **sections}, strict=True)


def refusals(build: Any, **sections: Any) -> dict[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as refused:
        build(**sections)
    return {error["loc"]: error["msg"] for error in refused.value.errors()}


def test_three_lines_make_a_study():
    spec = study()
    assert spec.search.budget.trials == 20
    assert spec.confirm.seeds == 3
    assert VERIFY not in stages_of(spec)
    assert VERIFY in stages_of(study(model={"base": "a/small", "target": "a/large"}))


def test_a_study_survives_being_written_and_read():
    for spec in (study(), own(), study(training={"lora_alpha": 8}, space={"preset": "minimal"})):
        assert StudySpec.model_validate(spec.model_dump(mode="json")) == spec
        assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
        assert StudySpec.model_validate(spec.model_dump(exclude_unset=True)) == spec


def test_the_built_in_trainer_needs_a_model_and_data():
    found = refusals(study, model=None, data=None)
    assert set(found) == {("model",), ("data",)}
    assert all(message.startswith("is missing: name ") for message in found.values())


def test_a_loss_is_minimised():
    assert ("search", "direction") in refusals(study, search={"direction": "maximize"})
    assert own(search={"direction": "maximize"}).search.direction == "maximize"


def test_a_target_needs_a_base():
    assert ("model", "target") in refusals(study, model={"target": "a/large"})
    assert ModelSpec.model_validate({"base": "a/small", "target": None}).target is None


def test_half_of_the_rows_at_least_are_trained_on():
    assert study(data={"source": "r", "split": {"validation": 0.25, "test": 0.25}}).data is not None
    assert ("data", "split") in refusals(study, data={"source": "r", "split": {"validation": 0.3, "test": 0.21}})


def test_a_searched_name_must_be_a_hyperparameter_unless_the_objective_is_ones_own():
    found = refusals(study, space={"parameters": {"learning_rat": {"choices": [1]}, "zzz": {"choices": [1]}}})
    assert found["space", "parameters", "learning_rat"] == "is no hyper-parameter; the nearest is learning_rate"
    assert found["space", "parameters", "zzz"].startswith("is no hyper-parameter; those are decay_ratio, ")
    assert own().space.resolve().parameters.keys() == {"lr"}


@pytest.mark.parametrize(
    "name, parameter, place",
    [
        ("learning_rate", {"low": 1e-5, "high": 3}, ("high",)),
        ("learning_rate", {"low": 0, "high": 1e-3}, ("low",)),
        ("lora_rank", {"low": 4, "high": 4000}, ("high",)),
        ("lora_rank", {"choices": [8, 16.5]}, ("choices", 1)),
        ("lora_rank", {"type": "float", "low": 4.0, "high": 8.0}, ("low",)),
        ("lora_dropout", {"low": 0, "high": 1.5}, ("high",)),
        ("scheduler", {"choices": ["cosine", "cosin"]}, ("choices", 1)),
        ("scheduler", {"low": 1, "high": 2}, ("low",)),
        ("warmup_ratio", {"choices": [True]}, ("choices", 0)),
    ],
)
def test_a_value_that_no_run_can_have_is_refused_where_it_stands(name, parameter, place):
    assert ("space", "parameters", name, *place) in refusals(study, space={"parameters": {name: parameter}})


def test_a_parameters_type_is_its_hyperparameters_own():
    space = study(
        space={"parameters": {"lora_rank": {"low": 4, "high": 32}, "lora_dropout": {"low": 0, "high": 0}}}
    ).space.resolve()
    assert isinstance(space.parameters["lora_rank"], IntParameter)
    assert isinstance(space.parameters["lora_dropout"], FloatParameter)


def test_of_an_unknown_name_the_bounds_tell_the_type():
    parameters = {"depth": {"low": 2, "high": 12}, "rate": {"low": 0, "high": 1.5}, "lr": {"low": 0.1, "high": 1}}
    space = own(space={"parameters": parameters}).space.resolve()
    assert [type(p) for p in space.parameters.values()] == [IntParameter, FloatParameter, FloatParameter]


def test_null_takes_a_parameter_out_and_conditional_ones_come_last():
    space = study(
        space={
            "parameters": {
                "lora_dropout": None,
                "warmup_ratio": {"low": 0.01, "high": 0.1, "when": {"scheduler": "cosine"}},
                "scheduler": {"choices": ["cosine", "constant"]},
            }
        }
    ).space.resolve()
    assert list(space.parameters) == [
        "learning_rate",
        "lora_rank",
        "lora_alpha_multiplier",
        "weight_decay",
        "scheduler",
        "warmup_ratio",
    ]


def test_among_conditional_parameters_the_order_of_the_file_counts():
    chain = {
        "warmup_ratio": {"low": 0.01, "high": 0.1, "when": {"weight_decay": 0.1}},
        "weight_decay": {"choices": [0.0, 0.1], "when": {"scheduler": "cosine"}},
        "scheduler": {"choices": ["cosine", "constant"]},
    }
    assert ("space", "parameters", "warmup_ratio", "when", "weight_decay") in refusals(
        study, space={"parameters": chain}
    )
    in_order = {name: chain[name] for name in ("scheduler", "weight_decay", "warmup_ratio")}
    assert list(study(space={"parameters": in_order}).space.resolve().parameters)[-2:] == [
        "weight_decay",
        "warmup_ratio",
    ]


def test_parameters_must_be_a_mapping():
    assert ("space", "parameters") in refusals(study, space={"parameters": [1]})


@pytest.mark.parametrize(
    "training, parameters, place",
    [
        ({"lora_alpha": 32}, {}, ("training", "lora_alpha")),
        ({}, {"lora_alpha": {"choices": [8, 16]}}, ("space", "parameters", "lora_alpha")),
        (
            {"lora_alpha_multiplier": 2.0},
            {"lora_alpha": {"choices": [8, 16]}, "lora_alpha_multiplier": None},
            ("training", "lora_alpha_multiplier"),
        ),
        ({"lora_alpha": 32, "lora_alpha_multiplier": 2}, {}, ("training", "lora_alpha")),
    ],
)
def test_alpha_is_set_one_way(training, parameters, place):
    assert place in refusals(study, training=training, space={"parameters": parameters})


def test_alpha_may_be_fixed_where_its_multiplier_is_taken_out():
    fixed = study(training={"lora_alpha": 32}, space={"parameters": {"lora_alpha_multiplier": None}})
    assert fixed.training.alpha == 32
    searched = {"parameters": {"lora_alpha": {"choices": [8, 16]}, "lora_alpha_multiplier": None}}
    assert study(space=searched).values_of("lora_alpha") == [8, 16]


@pytest.mark.parametrize(
    "training, space",
    [
        ({"method": "full"}, {"preset": "full"}),
        ({}, {"preset": "full", "parameters": {"method": {"choices": ["lora", "full"]}}}),
    ],
)
def test_a_quantised_base_cannot_be_trained_whole(training, space):
    held = {"base": "a/small", "quantisation": "nf4"}
    assert ("model", "quantisation") in refusals(study, model=held, training=training, space=space)
    assert "full" in study(training=training, space=space).values_of("method")


def test_the_micro_batch_divides_every_effective_batch():
    assert study(training={"micro_batch": 4}).training.micro_batch == 4
    assert ("training", "micro_batch") in refusals(study, training={"micro_batch": 5})
    for batches in ({"choices": [16, 18]}, {"low": 16, "high": 32}):
        space = {"parameters": {"effective_batch": batches}}
        assert ("training", "micro_batch") in refusals(study, training={"micro_batch": 4}, space=space)
    stepped = {"parameters": {"effective_batch": {"low": 16, "high": 33, "step": 8}}}
    assert study(training={"micro_batch": 8}, space=stepped).values_of("effective_batch") == [16, 24, 32]


def test_packed_rows_leave_no_padding_for_batches_by_length_to_save():
    rows = {"source": "c/rows", "pack_rows": True}
    assert ("training", "group_by_length") in refusals(study, data=rows, training={"group_by_length": True})
    assert study(data=rows).data == DataSpec(source="c/rows", pack_rows=True)


def test_a_prefix_cannot_stand_before_each_packed_row():
    rows = {"source": "c/rows", "pack_rows": True}
    searched = {"parameters": {"method": {"choices": ["lora", "prefix"]}}}
    assert ("data", "pack_rows") in refusals(
        study, data=rows, training={"method": "prefix"}, space={"preset": "prefix"}
    )
    assert ("data", "pack_rows") in refusals(study, data=rows, space=searched)


@pytest.mark.parametrize("source", ["rows.jsonl", "./rows", "builtin:stdlib-docstrings"])
def test_configurations_and_splits_belong_to_the_hub(source):
    found = refusals(study, data={"source": source, "subset": "en", "hub_split": "train"})
    assert set(found) == {("data", "subset"), ("data", "hub_split")}
    assert found["data", "subset"] == f"is for data sets from the hub, and {source} is none: drop it"
    assert study(data={"source": "c/rows", "subset": "en", "hub_split": "train[:10%]"}).data.subset == "en"


def test_values_are_choices_ends_of_a_range_or_the_fixed_one():
    spec = study(
        space={"parameters": {"effective_batch": {"low": 8, "high": 64, "step": 8}}},
        training={"target_modules": ["q_proj"]},
    )
    assert spec.values_of("effective_batch") == [8, 16, 24, 32, 40, 48, 56, 64]
    assert spec.values_of("learning_rate") == [5e-5, 5e-4]
    assert spec.values_of("lora_rank") == [4, 8, 16, 32]
    assert spec.values_of("scheduler") == ["cosine"]
    assert spec.values_of("target_modules") == []


def test_the_config_to_beat_is_a_config():
    assert study(confirm={"default": {"learning_rate": 1e-4, "lora_alpha": 32}}).confirm.default
    assert ("confirm", "default", "lora_rnk") in refusals(study, confirm={"default": {"lora_rnk": 8}})
    assert ("confirm", "default", "learning_rate") in refusals(study, confirm={"default": {"learning_rate": 3}})
    both = {"lora_alpha": 1, "lora_alpha_multiplier": 2}
    assert ("confirm", "default", "lora_alpha") in refusals(study, confirm={"default": both})


def test_the_config_to_beat_an_own_objective_with_names_its_parameters():
    assert own(confirm={"default": {"lr": 0.5}}).confirm.default == {"lr": 0.5}
    found = refusals(own, confirm={"default": {"l_r": 0.5}})
    assert found["confirm", "default", "l_r"] == "is no parameter of this space; the nearest is lr"


def test_an_own_objective_replaces_model_and_data():
    assert set(refusals(own, model={"base": "a"}, data={"source": "b"})) == {("model",), ("data",)}


def test_an_own_objective_starts_from_an_empty_space():
    without = {"name": "x", "objective": {"python": "a:b"}}
    with pytest.raises(ValidationError, match="nothing is searched"):
        StudySpec.model_validate(without)
    with_preset = StudySpec.model_validate({**without, "space": {"preset": "minimal"}})
    assert "learning_rate" in with_preset.space.resolve().parameters
    with pytest.raises(ValidationError, match="space"):
        StudySpec.model_validate({**without, "space": 3})


def test_a_command_names_parameters_seed_or_checkpoint():
    objective = own(objective={"command": "t {lr:.3f} {seed} {checkpoint}"}).objective
    assert objective is not None
    assert objective.placeholders() == ["lr", "seed", "checkpoint"]
    found = refusals(own, objective={"command": "t {lrr}"})
    assert found["objective", "command"] == "{lrr} is no parameter of this space; the nearest is lr"


@pytest.mark.parametrize("command", ["t {", "t }", "t 'open"])
def test_a_command_line_that_cannot_be_read_is_refused(command):
    assert "cannot be read as a command line" in refusals(own, objective={"command": command})["objective", "command"]


def test_placeholders_are_names_and_doubled_braces_are_text():
    assert placeholders_in("""t --a {lr} '{{"x": {depth[0]}}}' {opt.name!r}""") == ["lr", "depth", "opt"]
    assert ObjectiveSpec(python="a:b").placeholders() == []


def test_an_objective_is_a_function_or_a_command():
    assert "exactly one" in refusals(own, objective={})["objective",]
    assert "exactly one" in refusals(own, objective={"python": "a:b", "command": "t"})["objective",]


def test_an_empty_space_is_refused():
    assert ("space",) in refusals(study, space={"preset": "none"})


def test_a_grid_needs_a_finite_space():
    message = refusals(study, search={"sampler": "grid"}, space={"preset": "minimal"})["search", "sampler"]
    assert "give learning_rate a step or choices" in message
    finite = {"preset": "minimal", "parameters": {"learning_rate": {"choices": [1e-4, 2e-4]}}}
    assert study(search={"sampler": "grid"}, space=finite).space.resolve().size() == 6


@pytest.mark.parametrize("rungs", [[0.5, 0.25], [0.25, 0.25], [0.0], [1.0]])
def test_rungs_rise_between_the_ends(rungs):
    assert "must be rising fractions" in refusals(study, search={"rungs": rungs})["search", "rungs"]


@pytest.mark.parametrize("bracket", [[0.0, 1.0], [1.0, 1.0]])
def test_a_bracket_holds_distinct_positive_factors(bracket):
    assert ("transfer", "bracket") in refusals(study, transfer={"bracket": bracket})


def test_a_run_gives_its_hyperparameters_without_how_it_is_watched():
    training = TrainingSpec(lora_alpha=32, epochs=2, patience=0)
    assert training.hyperparameters().alpha == 32
    assert training.hyperparameters().model_fields_set == {"lora_alpha"}


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 101])
def test_names_are_safe_for_folders_and_urls(name):
    assert ("name",) in refusals(study, name=name)


@pytest.mark.parametrize("value", [True, "60", float("inf")])
def test_numbers_are_numbers(value):
    assert ("execution", "lease_seconds") in refusals(study, execution={"lease_seconds": value})


@pytest.mark.parametrize(
    "parameter, place, words",
    [
        ({"low": 2, "high": 1}, "low", "must not exceed high"),
        ({"low": 0, "high": 1, "log": True}, "low", "a log scale needs low above 0"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "step", "exclude each other"),
        ({"choices": [1, 2, 1.0]}, "choices", "drop the second 1.0"),
    ],
)
def test_a_parameter_that_cannot_be_sampled_is_refused_at_its_key(parameter, place, words):
    found = refusals(own, space={"parameters": {"lr": parameter}})
    (message,) = [text for path, text in found.items() if path[-1] == place]
    assert words in message


SHARES = ("execution", "gpus_per_trial")


def test_the_gpus_of_a_trial_share_every_effective_batch_equally():
    assert study(execution={"gpus_per_trial": 4}).execution.gpus_per_trial == 4
    ((path, message),) = refusals(study, execution={"gpus_per_trial": 3}).items()
    assert (path, "16 rows cannot be shared equally by 3 GPUs" in message) == (SHARES, True)
    space = {"parameters": {"effective_batch": {"choices": [8, 12]}}}
    assert SHARES in refusals(study, execution={"gpus_per_trial": 8}, space=space)
    of_micro = refusals(study, execution={"gpus_per_trial": 4}, training={"micro_batch": 8})
    assert "16 / 4 GPUs is no multiple of 8" in of_micro["training", "micro_batch"]


def test_the_default_to_beat_has_to_be_shared_equally_too():
    twelve = {"parameters": {"effective_batch": {"choices": [12, 24]}}}
    assert "confirm.default" in refusals(study, execution={"gpus_per_trial": 3}, space=twelve)[SHARES]
    given = study(execution={"gpus_per_trial": 3}, space=twelve, confirm={"default": {"effective_batch": 6}})
    assert given.execution.gpus_per_trial == 3
    assert (
        study(execution={"gpus_per_trial": 3}, space=twelve, confirm={"enabled": False}).execution.gpus_per_trial == 3
    )
    fixed = {"training": {"effective_batch": 9}, "execution": {"gpus_per_trial": 3}}
    assert study(**fixed, confirm={"default": {"lora_rank": 8}}).training.effective_batch == 9
    assert SHARES in refusals(study, **fixed, confirm={"default": {"effective_batch": 16}})


def test_a_trial_on_several_gpus_shares_them_with_no_other():
    path = ("search", "parallel_per_gpu")
    assert path in refusals(study, execution={"gpus_per_trial": 2}, search={"parallel_per_gpu": 2})
    assert study(search={"parallel_per_gpu": 4}).search.parallel_per_gpu == 4


HELD_IN_SHARES = {"gpus_per_trial": 2, "sharding": "fsdp"}


def test_a_base_in_shares_is_a_frozen_one_on_several_gpus():
    assert study(execution=HELD_IN_SHARES).execution.sharding == "fsdp"
    assert study(execution=HELD_IN_SHARES, training={"method": "rslora"}).training.method == "rslora"
    place = ("execution", "sharding")
    for words, changes in (
        ("set gpus_per_trial above 1", {"execution": {"sharding": "fsdp"}}),
        ("cannot hold the base for method full: use lora or rslora", {"training": {"method": "full"}}),
        ("cannot hold the base for lora_bias all", {"confirm": {"default": {"lora_bias": "all"}}}),
        ("no answers: drop evaluation.metrics", {"evaluation": {"metrics": ["rouge_l"]}}),
        ("cannot hold the base for method dora", {"space": {"parameters": {"method": {"choices": ["lora", "dora"]}}}}),
        ("does not hold nf4 weights", {"model": {"base": "b", "quantisation": "nf4"}}),
    ):
        assert words in refusals(study, **{"execution": HELD_IN_SHARES, **changes})[place]
    assert "of your own shares out its model itself" in refusals(own, execution=HELD_IN_SHARES)[place]


def test_true_and_one_are_different_choices():
    assert own(space={"parameters": {"lr": {"choices": [True, 1, "1"]}}}).space.resolve().size() == 3


@pytest.mark.parametrize(
    "condition, words",
    [
        ({"depht": 3}, "'depht', which is not a parameter before it; those before it: lr, depth"),
        ({"depth": 13}, "waits for depth to be 13, which is never sampled"),
        ({"depth": "3"}, "waits for depth to be 3, which is never sampled"),
        ({"depth": [3, 99]}, "waits for depth to be 99"),
        ({"depth": []}, "to be one of nothing"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(condition, words):
    parameters = {"lr": {"choices": [1]}, "depth": {"low": 2, "high": 12}, "tail": {"choices": [1], "when": condition}}
    ((path, message),) = refusals(own, space={"parameters": parameters}).items()
    assert path == ("space", "parameters", "tail", "when", next(iter(condition)))
    assert words in message


def test_a_condition_may_hold():
    parameters = {
        "lr": {"choices": [1]},
        "depth": {"low": 2, "high": 12},
        "tail": {"choices": [1], "when": {"depth": 3}},
    }
    assert list(own(space={"parameters": parameters}).space.resolve().parameters) == ["lr", "depth", "tail"]


def test_what_is_enqueued_lies_in_the_space():
    conditional = {"parameters": {"lora_dropout": {"low": 0.0, "high": 0.1, "when": {"lora_rank": [32]}}}}
    found = refusals(
        study,
        space=conditional,
        search={"enqueue": [{"lora_rnk": 8}, {"lora_rank": 5}, {"lora_rank": 8, "lora_dropout": 0.1}]},
    )
    assert found == {
        ("search", "enqueue", 0, "lora_rnk"): "is no parameter of this space; the nearest is lora_rank",
        ("search", "enqueue", 1, "lora_rank"): (
            "5 is none of its choices: 4, 8, 16, 32: choose another value, or widen the space"
        ),
        ("search", "enqueue", 2, "lora_dropout"): "is not sampled beside lora_rank 8: drop it, or change that",
    }
    assert study(space=conditional, search={"enqueue": [{"lora_rank": 32, "lora_dropout": 0.1}]})


def test_what_is_enqueued_for_an_objective_of_ones_own_is_complete_unless_there_is_a_default():
    space = {"parameters": {"lr": {"low": 0.1, "high": 1}, "depth": {"low": 1, "high": 9}}}
    enqueued = {"enqueue": [{"depth": 3}]}
    assert refusals(own, space=space, search=enqueued) == {
        ("search", "enqueue", 0): "lacks lr, and an objective of your own has no default: "
        "give every parameter, or say confirm.default"
    }
    assert own(space=space, search=enqueued, confirm={"default": {"lr": 0.5}})
