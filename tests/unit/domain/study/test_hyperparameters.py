"""One configuration: its defaults, its bounds, and alpha given in one of two ways."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.hyperparameters import SEARCHABLE, Hyperparameters


def test_the_defaults_are_the_practitioners_starting_point():
    plain = Hyperparameters()
    assert (plain.learning_rate, plain.lora_rank, plain.alpha, plain.warmup_ratio) == (2e-4, 16, 16, 0.03)
    assert (plain.scheduler, plain.target_modules, plain.effective_batch) == ("cosine", "all-linear", 16)


def test_alpha_is_a_multiple_of_the_rank_unless_given_itself():
    assert Hyperparameters(lora_rank=8, lora_alpha_multiplier=2).alpha == 16
    assert Hyperparameters(lora_rank=8, lora_alpha=4).alpha == 4


def test_alpha_given_both_ways_is_refused_at_its_key():
    with pytest.raises(ValidationError, match="both set alpha") as refused:
        Hyperparameters(lora_alpha=32, lora_alpha_multiplier=2)
    assert refused.value.errors()[0]["loc"] == ("lora_alpha",)


def test_a_searched_alpha_replaces_whichever_way_was_fixed():
    fixed = Hyperparameters(lora_rank=8, lora_alpha=4)
    assert fixed.with_values({"lora_alpha_multiplier": 2}).alpha == 16
    assert fixed.with_values({"lora_alpha_multiplier": 2}).with_values({"lora_alpha": 3}).alpha == 3
    assert fixed.with_values({"learning_rate": 1e-3}).alpha == 4


@pytest.mark.parametrize("values", [{"learning_rat": 1e-4}, {"learning_rate": 3}, {"scheduler": "cosin"}])
def test_unknown_names_and_impossible_values_are_refused(values):
    with pytest.raises(ValidationError):
        Hyperparameters().with_values(values)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"lora_alpha": 32, "lora_rank": 8},
        {"lora_alpha_multiplier": 2},
        {"target_modules": ["q_proj"], "method": "dora"},
    ],
)
def test_what_was_written_can_be_read_again(given):
    before = Hyperparameters.model_validate(given)
    assert Hyperparameters.model_validate(before.model_dump()) == before
    assert Hyperparameters.model_validate_json(before.model_dump_json()).alpha == before.alpha


@pytest.mark.parametrize("name", ["learning_rate", "lora_dropout", "max_grad_norm", "lora_alpha"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(name, value):
    with pytest.raises(ValidationError):
        Hyperparameters.model_validate({name: value})


def test_adapters_go_somewhere():
    with pytest.raises(ValidationError):
        Hyperparameters(target_modules=[])


def test_what_can_be_searched_is_what_can_be_set():
    assert frozenset(Hyperparameters.model_fields) == SEARCHABLE
    assert {"learning_rate", "lora_rank", "warmup_ratio"} <= SEARCHABLE


def test_names_of_modules_may_be_one_value_as_a_search_chooses_it():
    chosen = Hyperparameters().with_values({"target_modules": "(q_proj, v_proj)"})
    assert chosen.target_modules == ["q_proj", "v_proj"]
    assert Hyperparameters(target_modules=["q_proj"]).target_modules == ["q_proj"]
    for wrong in ("(q_proj", "()", "q_proj, v_proj"):
        with pytest.raises(ValidationError):
            Hyperparameters(target_modules=wrong)
