"""Models: described without loading, told apart, and refused in one line where they do not fit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, T5Config

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.errors import ModelError
from hpo_service.training.models.adapter import lora_config, target_modules, trainable
from hpo_service.training.models.base import (
    BaseKey,
    compute_dtype,
    describe_model,
    fingerprint,
    load_base,
    parameter_count,
)
from tests.training.tiny import byte_tokenizer, save_tiny_llama


def load(name, method="lora", **spec):
    key = BaseKey.of(name, ModelSpec(base=name, **spec), method)
    return load_base(key, Path("nowhere"), lambda message, fraction: None)


def test_a_loaded_model_tells_its_facts(llama):
    base = load(llama)
    assert (base.facts.family, base.facts.hidden_size) == ("llama", 32)
    assert base.facts.parameters == sum(p.numel() for p in base.model.parameters())
    assert base.padding == 2


def test_a_model_is_described_without_its_weights(llama, tmp_path):
    shutil.copytree(llama, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    facts = describe_model(str(tmp_path / "model"))
    assert (facts.family, facts.hidden_size, facts.parameters, facts.fingerprint) == ("llama", 32, None, "")


def test_builtin_models_are_described_without_being_made():
    tiny, small = describe_model("builtin:llama-tiny"), describe_model("builtin:llama-small")
    assert tiny.family == small.family == "llama"
    assert tiny.hidden_size < small.hidden_size
    with pytest.raises(ModelError, match="there is no builtin model builtin:huge; the builtin models are builtin:"):
        describe_model("builtin:huge")


def test_the_fingerprint_follows_the_weights(llama, tmp_path):
    first = fingerprint(AutoModelForCausalLM.from_pretrained(llama))
    assert fingerprint(AutoModelForCausalLM.from_pretrained(llama)) == first
    moved = tmp_path / "moved"
    shutil.copytree(llama, moved)
    assert fingerprint(AutoModelForCausalLM.from_pretrained(moved)) == first
    other = save_tiny_llama(tmp_path / "other", seed=1)
    assert fingerprint(AutoModelForCausalLM.from_pretrained(other)) != first


def test_weights_that_are_trained_are_held_in_float32():
    spec = ModelSpec(base="m", dtype="bfloat16")
    assert BaseKey.of("m", spec, "lora").weights == torch.bfloat16
    full = BaseKey.of("m", spec, "full")
    assert (full.weights, full.compute) == (torch.float32, torch.bfloat16)
    assert compute_dtype("float16") == torch.float16


def test_half_precision_without_a_gpu_is_refused():
    with pytest.raises(ModelError, match=r"model\.dtype float16 needs a GPU"):
        BaseKey.of("m", ModelSpec(base="m", dtype="float16"), "lora")


def test_qlora_means_nf4_unless_something_else_is_said():
    assert BaseKey.of("m", ModelSpec(base="m"), "qlora").quantisation == "nf4"
    assert BaseKey.of("m", ModelSpec(base="m", quantisation="int8"), "qlora").quantisation == "int8"
    with pytest.raises(ModelError, match=r"method full cannot train nf4 weights: set model\.quantisation to none"):
        BaseKey.of("m", ModelSpec(base="m", quantisation="nf4"), "full")


def test_quantised_weights_are_counted_as_they_were_before_packing(llama):
    plain = load(llama).facts.parameters
    assert load(llama, "qlora").facts.parameters == plain
    assert load(llama, quantisation="int8").facts.parameters == plain


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(ModelError) as caught:
        load(str(tmp_path / "nothing"))
    assert one_line(caught).startswith(f"model {tmp_path / 'nothing'} has no usable configuration")


@pytest.mark.parametrize("kind", ["masked", "encoder-decoder"])
def test_a_model_that_does_not_generate_text_is_one_clear_line(tmp_path, kind):
    if kind == "masked":
        config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
        BertForMaskedLM(config).save_pretrained(tmp_path)
    else:
        T5Config().save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        load(str(tmp_path))
    name = "BertForMaskedLM" if kind == "masked" else "t5"
    assert f"is not a causal language model (it is a {name})" in one_line(caught)


def test_a_model_without_its_tokenizer_is_one_clear_line(llama, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    assert one_line(caught).startswith(f"model {folder} has no usable tokenizer")


def test_a_model_without_its_weights_is_one_clear_line(llama, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    assert one_line(caught).startswith(f"model {folder} cannot be loaded")


def test_a_tokenizer_of_another_model_is_one_clear_line(trainee, tmp_path):
    folder = tmp_path / "model"
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    with pytest.raises(ModelError, match=r"knows no token .*: its tokenizer belongs to another"):
        trainee.run(trainee.config(model=str(folder)))


def test_targets_by_preset_and_by_name(llama):
    model = load(llama).model
    assert target_modules(model, "minimal") == ["q_proj", "v_proj"]
    assert target_modules(model, "attention") == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert target_modules(model, "all-linear") == "all-linear"
    assert {"embed_tokens", "lm_head", "gate_proj"} <= set(target_modules(model, "full"))
    assert target_modules(model, ["down_proj"]) == ["down_proj"]


def test_presets_know_other_families():
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2))
    assert target_modules(gpt2, "minimal") == ["c_attn"]
    assert target_modules(gpt2, "attention") == ["c_attn", "attn.c_proj"]


def test_a_target_that_is_not_in_the_model_is_one_clear_line(llama):
    with pytest.raises(ModelError) as caught:
        target_modules(load(llama).model, ["q_proj", "qq_proj"])
    assert one_line(caught) == (
        "target_modules: the model has no module qq_proj; its linear modules are "
        "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    )


def test_alpha_reaches_the_adapter_as_it_was_meant(llama):
    model = load(llama).model
    assert lora_config(model, Hyperparameters(lora_rank=8, lora_alpha_multiplier=2)).lora_alpha == 16
    assert lora_config(model, Hyperparameters(lora_rank=8, lora_alpha=12.5)).lora_alpha == 12.5


@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
@pytest.mark.parametrize("targets", ["all-linear", "full"])
def test_taking_an_adapter_off_leaves_the_base_as_it_was(llama, method, targets):
    base = load(llama).model
    before, modules = fingerprint(base), [name for name, _ in base.named_modules()]
    with trainable(base, Hyperparameters(method=method, target_modules=targets), 1) as model:
        assert 0 < parameter_count(model, trainable=True) < parameter_count(model)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1)
    assert [name for name, _ in base.named_modules()] == modules
    assert fingerprint(base) == before
    assert not hasattr(base, "peft_config")


def test_an_adapter_is_drawn_from_its_seed_alone(llama):
    base = load(llama).model

    def drawn(seed):
        with trainable(base, Hyperparameters(), seed) as model:
            return [p.detach().clone() for p in model.parameters() if p.requires_grad]

    one, other, again = drawn(1), drawn(2), drawn(1)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_configuration_that_is_damaged_is_one_clear_line(llama, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-family"}))
    with pytest.raises(ModelError) as caught:
        describe_model(str(tmp_path))
    assert "has no usable configuration" in one_line(caught)
