"""What is said of a study's models before its first trial."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.space import SpaceSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.errors import UnfitError
from hpo_service.training.models.adapter import target_modules, trainable
from hpo_service.training.models.blank import blank_model, step
from hpo_service.training.models.check import check_models
from hpo_service.training.models.reach import is_linear
from tests.training.experts import EXPERTS, save_experts
from tests.training.families import FAMILIES, GROUPED, save_family
from tests.training.test_base import load
from tests.training.tiny import byte_tokenizer

NONE = {"preset": "none", "parameters": {"learning_rate": {"low": 1e-4, "high": 1e-3}}}


def told(base, space=NONE, target=None, quantisation="none", **training):
    model = ModelSpec(base=base, target=target, quantisation=quantisation)
    found = check_models(model, TrainingSpec.model_validate(training), SpaceSpec.model_validate(space))
    return [(each.level, each.what) for each in found]


@pytest.mark.parametrize("config", [*FAMILIES.values(), *EXPERTS.values()], ids=[*FAMILIES, *EXPERTS])
def test_a_step_of_shapes_can_be_made_without_weights(config, tmp_path):
    config.save_pretrained(tmp_path)
    blank = blank_model(str(tmp_path), ModelSpec(base=str(tmp_path)))
    step(blank)
    with trainable(blank, Hyperparameters(lora_dropout=0.1), 0) as adapted:
        step(adapted)
        assert all(weight.grad is not None for weight in adapted.parameters() if weight.requires_grad)


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory):
    return save_experts("mixtral", tmp_path_factory.mktemp("check") / "mixtral")


def test_of_a_model_that_fits_nothing_is_said(llama):
    assert told(llama, {"preset": "lora"}) == told(llama, {"preset": "methods"}) == []
    assert told("builtin:llama-tiny", {"preset": "qlora"}, target="builtin:llama-small", method="qlora") == []
    assert told("builtin:bytes", {"preset": "scratch"}, method="scratch") == []


def test_what_is_left_out_is_said_with_its_share(mixtral):
    experts = f"model {mixtral}, target_modules all-linear: experts: not adapted, 89% of weights"
    assert told(mixtral, {"preset": "lora"}) == [("warning", experts)]
    not_quantised = f"model {mixtral}: experts: not quantised, 89% of weights; "
    said = told(mixtral, {"preset": "qlora"}, method="qlora")
    assert said[0] == ("warning", experts)
    assert said[1][1].startswith(not_quantised)
    assert told(mixtral, target_modules="attention") == []


def test_what_every_trial_would_fail_of_is_an_error_and_what_some_would_a_warning(llama):
    too_many = "pissa takes {} directions out of each layer, and model.layers.0.self_attn.q_proj has only 32: use"
    ((level, what),) = told(llama, init_lora_weights="pissa", lora_rank=64)
    assert (level, what.startswith(f"model {llama}: {too_many.format(64)}")) == ("error", True)
    ranks = {"preset": "none", "parameters": {"lora_rank": {"choices": [16, 32, 64, 128]}}}
    said = told(llama, ranks, init_lora_weights="pissa")
    assert [level for level, _ in said] == ["warning", "warning"]
    assert "1 of 4 kinds of trials would end as infeasible: pissa takes 64 directions" in said[0][1]


def test_names_and_kinds_of_modules_are_tried_on_the_model(llama):
    ((level, what),) = told(llama, target_modules=["c_attn"])
    assert (level, "target_modules: the model has no module c_attn; its linear" in what) == ("error", True)
    ((level, what),) = told(llama, target_modules=["q_proj", "norm"])
    assert (level, "adapters do not fit the model: Target module LlamaRMSNorm" in what) == ("error", True)


def test_experts_that_are_named_take_no_dropout(tmp_path):
    path = save_experts("deepseek", tmp_path / "deepseek")
    names = ["o_proj", "gate_proj", "up_proj", "down_proj"]
    assert told(path, target_modules=names) == []
    ((level, what),) = told(path, target_modules=names, lora_dropout=0.1)
    assert (level, "set lora_dropout to 0" in what) == ("error", True)


def test_both_models_of_a_study_are_looked_at(llama, tmp_path):
    gpt2 = save_family("gpt2", tmp_path / "gpt2")
    said = told(llama, target=gpt2, init_lora_weights="olora", lora_rank=4)
    olora = "olora does not fit the layers of gpt2 models (Conv1D): use pissa or default"
    assert said == [("error", f"model {gpt2}: {olora}")]


def test_configurations_that_cannot_be_had_are_told_apart_from_those_that_are_elsewhere(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5", "architectures": ["T5Model"]}')
    ((level, what),) = told(str(tmp_path))
    assert (level, "is not a causal language model (it is a T5Model)" in what) == ("error", True)
    ((level, what),) = told(str(tmp_path / "nowhere"))
    assert (level, "has no usable configuration" in what) == ("error", True)


def test_a_base_that_was_saved_in_4_bits_is_trained_as_one(llama, tmp_path):
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    path = tmp_path / "nf4"
    AutoModelForCausalLM.from_pretrained(llama, quantization_config=nf4, device_map={"": "cpu"}).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    assert told(str(path), {"preset": "lora"}) == []
    ((level, what),) = told(str(path), method="full")
    assert (level, "and this base holds them in 4 or 8 bits: use an adapter" in what) == ("error", True)
    model = load(str(path)).model
    assert not any(weight.requires_grad for weight in model.parameters())
    for wrong in ({"method": "full"}, {"init_lora_weights": "pissa", "lora_rank": 2}):
        carried = trainable(model, Hyperparameters(**wrong), 0)
        with pytest.raises(UnfitError, match="holds them in 4 or 8 bits"), carried:
            pass


def test_what_is_called_linear_and_is_none_gets_no_adapter(tmp_path):
    model = AutoModelForCausalLM.from_config(EXPERTS["phimoe"])
    assert not is_linear(model.model.layers[0].mlp.router)
    assert "model.layers.0.mlp.router" not in target_modules(model, "all-linear")

    class Scaled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    assert is_linear(nn.Linear(2, 2))
    assert not is_linear(Scaled(2, 2))


def test_a_step_that_fails_on_shapes_is_found(llama, monkeypatch):
    plain = LlamaForCausalLM.forward

    def odd(model, *args, **kwargs):
        if hasattr(model.model.layers[0].self_attn.q_proj, "lora_A"):
            raise KeyError("lora")
        return plain(model, *args, **kwargs)

    monkeypatch.setattr(LlamaForCausalLM, "forward", odd)
    ((level, what),) = told(llama)
    assert (level, what) == ("error", f"model {llama}: a step with these adapters fails (KeyError: 'lora')")


def test_a_padding_id_that_the_model_does_not_have_is_not_used(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    LlamaForCausalLM(LlamaConfig(**GROUPED)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    base = load(str(tmp_path))
    assert tokenizer.pad_token_id == 259 == base.model.config.vocab_size
    assert base.padding == 0
