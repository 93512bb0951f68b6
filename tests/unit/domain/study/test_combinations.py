"""What does not go together: told before a study starts where the space is small enough, at the trial where not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.combinations import RULES, combinations, conflict
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.search_space import SearchSpace
from hpo_service.domain.study.spec import StudySpec

BASE: dict[str, Any] = {"name": "x", "model": {"base": "a/small"}, "data": {"source": "c/rows"}}


def study(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({**BASE, **sections}, strict=True)


def refusals(**sections: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as refused:
        study(**sections)
    return {".".join(map(str, error["loc"])): error["msg"] for error in refused.value.errors()}


@pytest.mark.parametrize(
    "given, quantisation, reason",
    [
        ({"method": "full"}, "nf4", "method full trains the base's own weights"),
        ({"method": "scratch"}, "int8", "method scratch builds new weights"),
        ({"init_lora_weights": "pissa"}, "nf4", "pissa reads the base's weights, which are held in nf4 here"),
        ({"init_lora_weights": "orthogonal", "method": "qlora"}, "none", "orthogonal reads the base's weights"),
        ({"init_lora_weights": "orthogonal", "lora_rank": 7}, "none", "need an even rank, not 7: use 8"),
        ({"init_lora_weights": "olora", "method": "dora"}, "none", "with method dora no adapter"),
        ({"init_lora_weights": "pissa", "lora_bias": "all"}, "none", "with lora_bias all no adapter"),
        ({"init_lora_weights": "pissa", "target_modules": "full"}, "none", "with target_modules full"),
        ({"method": "scratch", "scratch_heads": 6}, "none", "6 heads do not cut a width of 128"),
        ({"method": "scratch", "scratch_width": 9, "scratch_heads": 3}, "none", "use an even scratch_width"),
        ({"method": "scratch", "scratch_length": 3}, "none", "pieces of 3 tokens teach nothing"),
    ],
)
def test_what_cannot_be_trained_has_a_reason(given, quantisation, reason):
    assert reason in conflict(Hyperparameters.model_validate(given), quantisation)


@pytest.mark.parametrize(
    "given, quantisation",
    [
        ({}, "none"),
        ({"method": "qlora", "init_lora_weights": "gaussian"}, "none"),
        ({"method": "prefix", "init_lora_weights": "pissa"}, "nf4"),  # prefix reads no start
        ({"init_lora_weights": "pissa", "target_modules": "attention"}, "none"),
        ({"scratch_heads": 6}, "none"),  # lora builds nothing
        ({"method": "scratch", "scratch_width": 96, "scratch_heads": 6, "scratch_length": 8}, "none"),
    ],
)
def test_what_is_not_read_cannot_be_wrong(given, quantisation):
    assert conflict(Hyperparameters.model_validate(given), quantisation) == ""


def test_the_heads_that_fit_are_named():
    reason = conflict(Hyperparameters(method="scratch", scratch_width=192, scratch_heads=10), "none")
    assert reason.endswith("the nearest that do are 8")


def test_fixed_settings_that_clash_are_refused_at_their_key():
    found = refusals(training={"init_lora_weights": "orthogonal", "lora_rank": 5}, space={"preset": "none"} | SEARCHED)
    assert found["training.lora_rank"].startswith("orthogonal adapters need an even rank")
    found = refusals(model={"base": "a/small", "quantisation": "nf4"}, training={"method": "full"})
    assert "use none, or method qlora" in found["model.quantisation"]


SEARCHED = {"parameters": {"learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}}}


def test_a_space_that_can_propose_a_clash_is_refused_with_the_way_out():
    parameters = {"scratch_width": {"choices": [64, 96]}, "scratch_heads": {"choices": [4, 5]}}
    found = refusals(training={"method": "scratch"}, space={"preset": "none", "parameters": parameters})
    assert found["space.parameters.scratch_heads"] == (
        "5 heads do not cut a width of 64 into heads of an even width: the nearest that do are 4 "
        "(proposed with scratch_width 64; a `when` keeps it out)"
    )


def test_a_condition_keeps_a_clash_out():
    parameters = {
        "scratch_width": {"choices": [64, 80]},
        "scratch_heads": {"choices": [5], "when": {"scratch_width": 80}},
    }
    space = {"preset": "none", "parameters": parameters}
    assert study(training={"method": "scratch", "scratch_heads": 4}, space=space).name == "x"
    methods = {"method": {"choices": ["lora", "dora"]}}
    starts = {"init_lora_weights": {"choices": ["default", "pissa"], "when": {"method": ["lora"]}}}
    assert study(space={"parameters": {**methods, **starts}}).name == "x"
    starts["init_lora_weights"].pop("when")
    assert "space.parameters.init_lora_weights" in refusals(space={"parameters": {**methods, **starts}})


def test_the_default_to_compare_with_must_be_trainable_too():
    searched = {"preset": "none", "parameters": {"scratch_heads": {"choices": [2, 3]}}}
    training = {"method": "scratch", "scratch_width": 36}
    assert refusals(training=training, space=searched)["confirm.default"].startswith(
        "the default to compare with cannot be trained: 8 heads"
    )
    assert study(training=training, space=searched, confirm={"default": {"scratch_heads": 2}}).name == "x"
    assert study(training=training, space=searched, confirm={"enabled": False}).name == "x"


def test_scratch_and_its_tokenizer_belong_together():
    assert "model.base" in refusals(model={"base": "builtin:bytes"})
    assert "model.target" in refusals(model={"base": "a/b", "target": "c/d"}, training={"method": "scratch"})
    assert study(model={"base": "builtin:bytes"}, training={"method": "scratch"}, space={"preset": "scratch"})


def test_checkpointing_and_prefixes_exclude_each_other():
    training = {"method": "prefix", "activation_checkpointing": "on"}
    assert "training.activation_checkpointing" in refusals(training=training, space={"preset": "prefix"})


def test_combinations_follow_conditions_and_bring_what_they_look_at():
    space = SearchSpace.model_validate(
        {
            "parameters": {
                "method": {"type": "categorical", "choices": ["lora", "prefix", "full"]},
                "other": {"type": "float", "low": 0, "high": 1},
                "rank": {"type": "int", "low": 1, "high": 1000, "when": {"method": "lora"}},
            }
        }
    )
    assert list(combinations(space, {"rank"})) == [
        {"method": "lora", "rank": 1},
        {"method": "lora", "rank": 2},
        {"method": "lora", "rank": 1000},
        {"method": "prefix"},
        {"method": "full"},
    ]


def test_every_rule_names_real_settings():
    assert all(name in Hyperparameters.model_fields for rule in RULES for name in rule.fields)
