"""The estimate against what torch, transformers and PEFT really make and keep."""

from copy import deepcopy

import pytest
import torch
from peft import get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OlmoeConfig,
    Phi3Config,
    PhimoeConfig,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import estimate, trained_weights
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.training.models.adapter import lora_config
from hpo_service.training.models.base import describe_model, parameter_count

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "tied llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=64),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=48),
    "mistral": MistralConfig(**SIZES),
    "phi3": Phi3Config(**SIZES),
    "neox": GPTNeoXConfig(**{k: v for k, v in SIZES.items() if k != "num_key_value_heads"}),
    "gpt2": GPT2Config(n_embd=256, n_layer=3, n_head=8, vocab_size=1000, n_positions=64, attn_pdrop=0, resid_pdrop=0),
}
EXPERTS = {
    "mixtral": MixtralConfig(**SIZES, num_local_experts=8, num_experts_per_tok=2),
    "qwen3moe": Qwen3MoeConfig(**SIZES, head_dim=64, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=384),
    "olmoe": OlmoeConfig(**SIZES, num_experts=8, num_experts_per_tok=2),
    "phimoe": PhimoeConfig(**SIZES, num_local_experts=8, num_experts_per_tok=2),
}
SHARED = Qwen2MoeConfig(
    **SIZES, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=384, shared_expert_intermediate_size=512
)
CONFIGS |= EXPERTS
TARGETS = ["minimal", "attention", "all-linear", "full"]


@pytest.mark.parametrize("family", CONFIGS)
def test_weights_and_adapters_are_counted_as_transformers_and_peft_make_them(family):
    config = deepcopy(CONFIGS[family])  # the model writes its type into it
    shape = ModelShape.read(config.to_dict())
    for targets in TARGETS:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
            real = parameter_count(model)
            adapted = get_peft_model(model, lora_config(model, Hyperparameters(lora_rank=4, target_modules=targets)))
        assert shape.linear_weights + shape.table_weights == pytest.approx(real, rel=0.03)
        assert trained_weights(Demand(shape, rank=4, targets=targets)) == parameter_count(adapted, trainable=True)


def kept_bytes(model, tokens):
    """Bytes that autograd keeps from a forward pass for the backward one, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            # held, so that no other tensor comes to lie in its place
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(0, 1000, tokens)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
    assert loss.requires_grad
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("targets", ["minimal", "all-linear"])
@pytest.mark.parametrize("family", ["llama", "mistral", "phi3", "qwen3", "gemma3", "neox", "gpt2", *EXPERTS])
def test_activations_are_what_autograd_keeps(family, targets):
    torch.manual_seed(0)
    config = deepcopy(CONFIGS[family])  # the model writes its type into it
    shape = ModelShape.read(config.to_dict())
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    adapted = get_peft_model(model, lora_config(model, Hyperparameters(lora_rank=4, target_modules=targets)))
    adapted.train()
    parts = estimate(Demand(shape, rank=4, targets=targets, micro_batch=4, length=64)).parts
    kept = kept_bytes(adapted, (4, 64))
    # of the logits only the log-softmax in float32 is kept; the gradient follows in the backward pass
    log_softmax = 4 * 4 * 64 * 1000
    assert parts["activations"] * 1e9 == pytest.approx(kept - log_softmax, rel=0.25)


def test_a_shared_expert_is_counted_beside_the_others():
    shape = ModelShape.read(SHARED.to_dict())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(SHARED)
        real = parameter_count(model)
        adapted = get_peft_model(model, lora_config(model, Hyperparameters(lora_rank=4)))
    assert shape.linear_weights + shape.table_weights == pytest.approx(real, rel=0.01)
    # the gate of the shared expert, one number a token, is not counted
    adapters = trained_weights(Demand(shape, rank=4))
    assert adapters == parameter_count(adapted, trainable=True) - 3 * 4 * (256 + 1)


def test_a_models_sizes_are_known_before_and_after_it_is_loaded(trainee):
    before = describe_model(trainee.llama).shape
    trainee.run(trainee.config(evaluations_per_epoch=1))
    after = trainee.started.models[trainee.llama]
    assert before == after.shape
    assert before.linear_weights + before.table_weights == pytest.approx(after.parameters, rel=0.01)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_with_checkpointing_only_what_goes_from_layer_to_layer_is_kept(family):
    torch.manual_seed(0)
    config = deepcopy(CONFIGS[family])  # the model writes its type into it
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    adapted = get_peft_model(model, lora_config(model, Hyperparameters(lora_rank=4)))
    adapted.train()
    adapted.enable_input_require_grads()
    adapted.gradient_checkpointing_enable({"use_reentrant": False})
    demand = Demand(ModelShape.read(config.to_dict()), rank=4, micro_batch=4, length=64, checkpointing=True)
    parts = estimate(demand).parts
    log_softmax = 4 * 4 * 64 * 1000
    # besides the layers' inputs the last norm keeps its own, in float32
    kept = kept_bytes(adapted, (4, 64)) - log_softmax - 4 * 64 * 256 * 4
    # of the estimate, what the layer computed last keeps beyond the logits is not there before the backward pass
    at_forward = 4 * 64 * 3 * 256 * 2
    assert at_forward == pytest.approx(kept, rel=0.25)
    assert parts["activations"] * 1e9 >= at_forward
