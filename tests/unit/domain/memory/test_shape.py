"""Sizes read off the configurations of many families."""

import pytest

from hpo_service.domain.memory.shape import MODULE_NAMES, ModelShape

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_inner": None, "n_layer": 12, "n_head": 12, "vocab_size": 50257}


def weights(shape):
    return {matrix.role: matrix.weights for matrix in shape.linear()}


def test_a_llama_has_the_weights_that_its_makers_count():
    shape = ModelShape.read(LLAMA)
    assert shape.linear_weights + shape.table_weights == 8_029_995_008
    assert (shape.tied, shape.gated, shape.head_dim) == (False, True, 128)
    assert set(weights(shape)) == {"q", "k", "v", "o", "gate", "up", "down"}


def test_other_names_and_defaults_are_understood():
    shape = ModelShape.read(GPT2)
    assert (shape.hidden_size, shape.intermediate_size, shape.layers, shape.kv_heads) == (768, 3072, 12, 12)
    assert (shape.tied, shape.gated, shape.fused_attention) == (True, False, True)
    assert set(weights(shape)) == {"qkv", "o", "up", "down"}
    assert weights(shape)["qkv"] == 12 * 768 * 3 * 768


def test_gate_and_up_may_be_one_matrix():
    shape = ModelShape.read({**LLAMA, "model_type": "phi3"})
    assert set(weights(shape)) == {"qkv", "o", "gate_up", "down"}
    assert shape.linear_weights == ModelShape.read(LLAMA).linear_weights


def test_a_model_that_also_sees_is_read_by_its_text_part():
    config = {"model_type": "gemma3", "text_config": {**LLAMA, "model_type": "gemma3_text", "head_dim": 256}}
    shape = ModelShape.read(config)
    assert (shape.attention_size, shape.key_size) == (32 * 256, 8 * 256)
    assert shape.tied


def test_experts_multiply_the_feed_forward_matrices():
    shape = ModelShape.read({**LLAMA, "model_type": "qwen3_moe", "num_experts": 64, "moe_intermediate_size": 768})
    assert weights(shape)["gate"] == 32 * 64 * 768 * 4096


def test_neither_the_presets_nor_quantisation_reach_experts():
    config = {**LLAMA, "num_local_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1}
    shape = ModelShape.read({**config, "moe_intermediate_size": 1024})
    assert [matrix.role for matrix in shape.quantised()][-4:] == ["o", "shared_gate", "shared_up", "shared_down"]
    assert shape.expert_weights == 32 * 8 * 3 * 1024 * 4096
    assert shape.linear_weights - shape.expert_weights == sum(matrix.weights for matrix in shape.quantised())
    assert not {"gate", "up", "down"} & {matrix.role for matrix in shape.targeted("full")}
    # named, they are there
    assert "down" in {matrix.role for matrix in shape.targeted(["down_proj"])}
    assert shape.inner_size == 2 * 1024 + 1024
    assert ModelShape.read(LLAMA).expert_weights == 0


def test_of_sizes_given_per_layer_the_largest_counts():
    assert ModelShape.read({**LLAMA, "intermediate_size": [1024, 4096, 2048]}).intermediate_size == 4096


@pytest.mark.parametrize(
    "config",
    [{}, {"model_type": "mamba", "hidden_size": 768}, {**LLAMA, "vocab_size": None}, {**LLAMA, "num_hidden_layers": 0}],
)
def test_a_configuration_without_these_sizes_tells_nothing(config):
    assert ModelShape.read(config) is None


@pytest.mark.parametrize(
    "targets, roles",
    [
        ("minimal", ["q", "v"]),
        ("attention", ["q", "k", "v", "o"]),
        ("all-linear", ["q", "k", "v", "o", "gate", "up", "down"]),
        ("full", ["q", "k", "v", "o", "gate", "up", "down", "embeddings", "head"]),
        (["down_proj", "model.layers.0.self_attn.q_proj"], ["q", "down"]),
    ],
)
def test_targets_mean_matrices(targets, roles):
    assert [matrix.role for matrix in ModelShape.read(LLAMA).targeted(targets)] == roles


def test_every_role_has_names():
    assert all(MODULE_NAMES.values())
