"""The tables of methods and what the study file offers agree."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.hyperparameters import SEARCHABLE, Hyperparameters
from hpo_service.domain.study.methods import LOW_RANK, METHODS, ONLY_FOR, STARTS, TARGETS, adapts_embeddings, held_in
from hpo_service.domain.study.presets import PRESETS
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec


def test_the_study_file_offers_every_method_and_start():
    offered = Hyperparameters.model_json_schema()["properties"]
    assert list(METHODS) == offered["method"]["enum"]
    assert list(STARTS) == offered["init_lora_weights"]["enum"]
    assert list(TARGETS) == offered["target_modules"]["anyOf"][0]["enum"]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_starts_within_its_range_from_a_preset_that_exists(name):
    method = METHODS[name]
    assert method.rates.low < method.rates.start < method.rates.high
    assert method.preset in PRESETS


def test_settings_that_are_read_only_sometimes_are_settings_and_their_selectors_too():
    assert ONLY_FOR.keys() <= SEARCHABLE
    for selector, values in ONLY_FOR.values():
        assert all(Hyperparameters.model_validate({selector: value}) for value in values)


def test_settings_are_read_where_another_one_says_so():
    assert Hyperparameters(method="dora").reads("lora_rank")
    assert not Hyperparameters(method="full").reads("lora_rank")
    assert Hyperparameters(method="full").reads("learning_rate")
    assert Hyperparameters(scheduler="polynomial").reads("scheduler_power")


def test_only_qlora_is_quantised_without_being_asked():
    assert held_in("qlora", "none") == "nf4"
    assert held_in("qlora", "int8") == "int8"
    assert held_in("lora", "none") == "none"


@pytest.mark.parametrize(
    "given, leaves",
    [
        *(({"method": name}, name not in ("full", "scratch")) for name in METHODS),
        *(({"init_lora_weights": name}, name not in ("pissa", "pissa_niter_16", "olora")) for name in STARTS),
        ({"lora_bias": "lora_only"}, False),
        ({"lora_bias": "all", "method": "prefix"}, True),
        ({"target_modules": "full"}, True),
    ],
)
def test_a_base_serves_the_next_trial_only_where_it_was_left_as_it_was(given, leaves):
    assert Hyperparameters.model_validate(given).leaves_base is leaves


def test_activations_are_checkpointed_for_large_bases_on_a_gpu():
    auto = TrainingSpec()
    assert auto.checkpoints_activations(8_000_000_000, on_gpu=True)
    assert not auto.checkpoints_activations(500_000_000, on_gpu=True)
    assert not auto.checkpoints_activations(8_000_000_000, on_gpu=False)
    assert not TrainingSpec(method="prefix").checkpoints_activations(8_000_000_000, on_gpu=True)
    assert TrainingSpec(activation_checkpointing="on").checkpoints_activations(1, on_gpu=False)
    assert not TrainingSpec(activation_checkpointing="off").checkpoints_activations(8_000_000_000, on_gpu=True)


def test_a_revision_belongs_to_a_model_of_the_hub():
    spec = ModelSpec(base="a/small", target="a/large", revision="main", target_revision="v2")
    assert (spec.revision_of("a/small"), spec.revision_of("a/large")) == ("main", "v2")
    for wrong in (
        {"base": "./local", "revision": "main"},
        {"base": "builtin:llama-tiny", "revision": "main"},
        {"base": "a/b", "target_revision": "x"},
    ):
        with pytest.raises(ValueError, match="is for a model from the hub"):
            ModelSpec.model_validate(wrong)


def test_every_low_rank_method_reads_the_rank():
    assert ONLY_FOR["lora_rank"] == ("method", LOW_RANK)


def test_only_one_preset_of_targets_reaches_the_embeddings():
    assert [name for name in TARGETS if adapts_embeddings(name)] == ["full"]
    assert not adapts_embeddings(["embed_tokens"]), "names are looked at where the model is known"


def test_what_can_be_packed_or_sharded_are_low_rank_adapters_on_a_frozen_base():
    for method in METHODS.values():
        if method.packable or method.shardable:
            assert method.low_rank
            assert method.base == "frozen"
