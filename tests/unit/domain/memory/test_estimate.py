"""The estimate: exact where arithmetic is, growing with what costs memory, close to public figures."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import (
    CONTEXT_GB,
    OPTIMIZER_BYTES,
    PASSING,
    Estimate,
    at_rest_gb,
    estimate,
    side_by_side,
    trained_weights,
)
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.hyperparameters import Optimizer

LLAMA_8B = ModelShape(
    hidden_size=4096, intermediate_size=14336, layers=32, heads=32, kv_heads=8, head_dim=128, vocab_size=128256
)
GIB = 2**30 / 1e9
DEMANDS = st.builds(
    Demand,
    shape=st.just(LLAMA_8B),
    method=st.sampled_from(["lora", "qlora", "dora", "full", "prefix"]),
    quantisation=st.sampled_from(["none", "nf4", "int8"]),
    rank=st.integers(1, 256),
    targets=st.sampled_from(["minimal", "attention", "all-linear", "full", ("q_proj",)]),
    dropout=st.booleans(),
    virtual_tokens=st.integers(1, 64),
    optimizer=st.sampled_from(sorted(OPTIMIZER_BYTES)),
    micro_batch=st.integers(1, 8),
    length=st.integers(1, 4096),
    checkpointing=st.booleans(),
)


def test_the_parts_of_an_8b_qlora_are_those_of_the_public_reckoning():
    parts = estimate(Demand(LLAMA_8B, quantisation="nf4", length=2048, checkpointing=True)).parts
    assert parts["base weights"] == pytest.approx(3.35 * GIB, rel=0.01)
    assert parts["embeddings and head"] == pytest.approx(3.91 * GIB, rel=0.01)
    assert parts["trained weights"] + parts["gradients"] + parts["optimizer"] == pytest.approx(0.63 * GIB, rel=0.01)
    # 0.5 GiB where the numbers between layers have 2 bytes; a base prepared for training in 4 bits has 4
    assert parts["activations"] == pytest.approx(2 * 0.5 * GIB, rel=0.01)
    # the reckoning has 10 bytes a token and word, an H100 has 12: two gradients beside the log-softmax
    assert parts["logits"] == pytest.approx(2.45 * GIB * 12 / 10, rel=0.01)


def test_experts_stay_in_16_bits_where_the_rest_is_quantised():
    mixtral = LLAMA_8B.model_copy(update={"experts": 8, "experts_per_token": 2, "vocab_size": 32000})
    experts = 8 * 3 * 32 * 4096 * 14336
    parts = {each: estimate(Demand(mixtral, quantisation=each, length=512)).parts for each in ("none", "nf4", "int8")}
    assert parts["none"]["base weights"] == pytest.approx(92.9, rel=0.01)
    attention = parts["none"]["base weights"] - 2 * experts / 1e9
    assert parts["nf4"]["base weights"] == pytest.approx(2 * experts / 1e9 + attention * 4.127 / 16, rel=1e-3)
    assert parts["int8"]["base weights"] == pytest.approx(2 * experts / 1e9 + attention / 2, rel=1e-3)
    # nothing larger than an attention matrix is ever spelled out, beside the head in 16 bits
    assert parts["nf4"]["workspace"] == pytest.approx(2 * 4096 * (4096 + 32000) / 1e9)
    # a token keeps what the two experts that it goes through make of it
    one = estimate(Demand(LLAMA_8B, length=512)).parts["activations"]
    assert 1.2 * one < parts["none"]["activations"] < 2 * one


def test_embeddings_may_be_held_otherwise_than_here():
    quantised = Demand(LLAMA_8B, quantisation="nf4")
    assert estimate(replace(quantised, table_bytes=2)).parts["embeddings and head"] == pytest.approx(2.1, rel=0.01)
    assert estimate(quantised).parts["embeddings and head"] == pytest.approx(4.2, rel=0.01)


@given(DEMANDS)
def test_more_of_anything_never_needs_less(demand):
    total = estimate(demand).total_gb
    for more in (
        replace(demand, micro_batch=demand.micro_batch + 1),
        replace(demand, length=demand.length + 1),
        replace(demand, rank=demand.rank + 1),
        replace(demand, optimizer="ademamix"),
        replace(demand, checkpointing=False),
        replace(demand, dropout=True),
        replace(demand, correction=1.2),
    ):
        assert estimate(more).total_gb >= total
    assert at_rest_gb(demand) <= total


@given(DEMANDS)
def test_a_total_is_its_parts_and_the_reserve(demand):
    needed = estimate(demand)
    assert all(size >= 0 for size in needed.parts.values())
    assert needed.total_gb == pytest.approx(sum(needed.parts.values()) + needed.reserve_gb)
    assert needed.reserve_gb >= CONTEXT_GB
    assert set(PASSING) <= set(needed.parts)


@given(DEMANDS, st.integers(2, 8))
def test_each_further_trial_over_one_base_costs_less_than_one_on_its_own(demand, trials):
    def needed(number):
        return side_by_side(demand, number, 10**9, 10**9).total_gb

    # a pack keeps all activations, whatever the study says
    alone = estimate(replace(demand, checkpointing=False)).total_gb
    assert needed(trials - 1) < needed(trials) < needed(trials - 1) + alone


@given(DEMANDS, st.integers(1, 8))
def test_what_passes_through_the_base_is_bounded_by_the_size_of_a_pass(demand, trials):
    few, many = (side_by_side(demand, number, demand.tokens, demand.tokens) for number in (1, trials))
    assert [few.parts[name] for name in PASSING] == [many.parts[name] for name in PASSING]
    assert many.parts["optimizer"] == pytest.approx(trials * few.parts["optimizer"])
    assert side_by_side(demand, trials, demand.tokens, 0).parts["logits"] == 0


def test_what_is_trained_is_counted_exactly():
    layers, width, keys, inner = 32, 4096, 1024, 14336
    minimal = 8 * (width + width + width + keys) * layers
    assert trained_weights(Demand(LLAMA_8B, rank=8, targets="minimal")) == minimal
    assert trained_weights(Demand(LLAMA_8B, rank=8, targets="minimal", method="dora")) == minimal + layers * 5120
    assert trained_weights(Demand(LLAMA_8B, method="full")) == 8_029_995_008
    assert trained_weights(Demand(LLAMA_8B, method="prefix", virtual_tokens=20)) == 20 * layers * 2 * keys
    assert trained_weights(Demand(LLAMA_8B, rank=1, targets=("down_proj",))) == layers * (inner + width)


def test_full_training_takes_sixteen_bytes_a_weight_at_rest():
    assert at_rest_gb(Demand(LLAMA_8B, method="full")) == pytest.approx(8.03 * 16 + CONTEXT_GB, rel=0.001)


def test_a_base_in_shares_takes_its_share_and_what_is_gathered():
    whole, shared = (estimate(Demand(LLAMA_8B, length=512, shards=shards)).parts for shards in (1, 4))
    assert shared["base weights"] == whole["base weights"] / 4
    assert shared["activations"] == whole["activations"]
    layer, tables = whole["base weights"] / 32, whole["embeddings and head"]
    assert shared["workspace"] == pytest.approx(layer + tables)


def test_every_optimizer_of_the_study_file_is_known():
    assert set(OPTIMIZER_BYTES) == set(get_args(Optimizer))


def test_a_correction_scales_what_torch_counts_and_not_the_context():
    plain, corrected = Estimate({"base weights": 4.0, **dict.fromkeys(PASSING, 0.0)}), 1.5
    assert replace(plain, correction=corrected).total_gb == 6.0 + CONTEXT_GB
    assert replace(plain, correction=corrected).tensors_gb == 4.0


def test_the_wording_names_the_largest_parts_first():
    words = estimate(Demand(LLAMA_8B, length=128)).wording()
    assert words.startswith("base weights 13.96, embeddings and head 2.10, ")
    assert "workspace" not in words
