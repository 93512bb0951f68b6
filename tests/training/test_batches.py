"""Batches: whatever saves padding must not change what is learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen3Config,
)

from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import ModelError
from hpo_service.training.data.batches import (
    Batches,
    LengthGrouped,
    assign_to_sequences,
    check_rows_stay_apart,
    lay_out,
)
from hpo_service.training.data.tokens import IGNORED, TokenRow
from hpo_service.training.engines.solo import SoloEngine
from hpo_service.training.models.base import BaseKey, load_base
from hpo_service.training.run.loaded_models import LoadedModels
from tests.training.tiny import byte_tokenizer
from tests.trials import stop

SHAPE = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TOKENS = {"pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1}
SHAPE |= {"max_position_embeddings": 128, **TOKENS}
GATED = {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 2}
HEADS = {**GATED, "head_dim": 16}
FAMILIES = {
    "qwen3": Qwen3Config(**HEADS),
    "gemma3": Gemma3TextConfig(**HEADS, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
    "mistral": MistralConfig(**GATED, sliding_window=8),
    "phi3": Phi3Config(**GATED),
    "gpt-neox": GPTNeoXConfig(**SHAPE, intermediate_size=64),
    "gpt2": GPT2Config(
        vocab_size=259, n_embd=32, n_layer=2, n_head=2, n_positions=128, **dict(list(SHAPE.items())[-3:])
    ),
}
BLIND = {
    "opt": OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=32),
    "bloom": BloomConfig(vocab_size=259, hidden_size=32, n_layer=2, n_head=2),
}


def model_of(config, attention="sdpa"):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


@pytest.fixture(scope="module")
def base(llama, tmp_path_factory):
    key = BaseKey.of(llama, ModelSpec(base=llama), "lora")
    return load_base(key, tmp_path_factory.mktemp("cache"), lambda *_: None)


def a_row(length, start=3):
    ids = np.arange(start, start + length, dtype=np.int32)
    labels = ids.copy()
    labels[: 1 + length // 3] = IGNORED
    return TokenRow(ids, labels)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.integers(20, 50))
def test_every_row_is_laid_out_once_and_whole(lengths, capacity):
    rows = [a_row(length, start=3 + 20 * number) for number, length in enumerate(lengths)]
    batch = lay_out(rows, capacity, padding=2)
    assert batch["input_ids"].shape[1] <= capacity
    found = []
    for sequence in range(len(batch["input_ids"])):
        held = batch["attention_mask"][sequence].bool()
        ids, labels, positions = (batch[name][sequence] for name in ("input_ids", "labels", "position_ids"))
        assert (ids[~held] == 2).all()
        assert (labels[~held] == IGNORED).all()
        assert (positions[~held] == 0).all()
        starts = [at for at, position in enumerate(positions.tolist()) if held[at] and position == 0]
        for begin, end in zip(starts, [*starts[1:], int(held.sum())], strict=True):
            assert positions[begin:end].tolist() == list(range(end - begin))
            found.append((ids[begin:end].tolist(), labels[begin:end].tolist()))
    assert sorted(found) == sorted((row.ids.tolist(), row.labels.tolist()) for row in rows)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(30, 100))
def test_sequences_hold_every_row_once_and_are_at_most_about_twice_the_fewest(lengths, capacity):
    sequences = assign_to_sequences(lengths, capacity)
    assert sorted(index for members in sequences for index in members) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in members) <= capacity for members in sequences)
    assert all(members for members in sequences)
    assert len(sequences) <= 2 * sum(lengths) / capacity + 1


def test_a_row_longer_than_a_sequence_stands_alone():
    assert assign_to_sequences([5, 30, 4], 10) == [[1], [0], [2]]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_these_families_keep_packed_rows_apart(base, family, attention):
    model = model_of(FAMILIES[family], attention).train()
    check_rows_stay_apart(replace(base, model=model))
    assert model.training


@pytest.mark.parametrize("family", BLIND)
def test_families_whose_rows_would_see_each_other_are_refused_in_one_clear_line(base, family):
    model = model_of(BLIND[family], "eager")
    with pytest.raises(ModelError) as caught:
        check_rows_stay_apart(replace(base, model=model, facts=base.facts.model_copy(update={"family": family})))
    assert f"({family}) does not keep packed rows apart" in str(caught.value)
    assert "set data.pack_rows to false" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trying_a_model_draws_no_random_numbers(base):
    before = torch.random.get_rng_state()
    check_rows_stay_apart(base)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.fixture(scope="module")
def neox(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "neox"
    model_of(FAMILIES["gpt-neox"]).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", ["llama", "neox"])
def test_packed_rows_give_the_same_losses_as_unpacked_ones(trainee, request, family):
    changes = {"model": request.getfixturevalue(family), "effective_batch": 16, "epochs": 2}
    plain = trainee.run(trainee.config(**changes), "plain")
    reports = trainee.reports
    packed = trainee.run(trainee.config(**changes, data={"pack_rows": True}), "packed")
    assert len(reports) == len(trainee.reports) == 8
    for one, other in zip(reports, trainee.reports, strict=True):
        assert other.value == pytest.approx(one.value, abs=1e-6)
        assert other.metrics["train_loss"] == pytest.approx(one.metrics["train_loss"], abs=1e-6)
        assert other.metrics["grad_norm"] == pytest.approx(one.metrics["grad_norm"], abs=1e-5)
    assert reports[-1].value < reports[0].value - 0.01
    assert packed.validation.nll == pytest.approx(plain.validation.nll, abs=1e-4)
    assert packed.facts.training.tokens == plain.facts.training.tokens
    assert packed.facts.data.packing_saved_share > 0.1
    assert packed.facts.data.padding_share < plain.facts.data.padding_share
    assert "packing_saved_share" not in plain.facts.flat()


RELEASE = stop("release", "the node is needed")


@pytest.mark.parametrize(
    "changes",
    [{"data": {"pack_rows": True}}, {"group_by_length": True}, {"order": "curriculum"}, {"order": "progressive"}],
    ids=["packed", "grouped", "curriculum", "progressive"],
)
@pytest.mark.parametrize("progress", [0.3, 0.7])
def test_a_released_trial_goes_on_exactly_in_either_epoch(trainee, tmp_path, changes, progress):
    config = trainee.config(lora_dropout=0.1, epochs=2, **changes)
    whole = trainee.run(config, "whole")
    expected = [report.value for report in trainee.reports]
    released = trainee.run(config, "parts", at_progress=(progress, RELEASE))
    first = [report.value for report in trainee.reports]
    assert released.kind is OutcomeKind.RELEASED
    resumed = trainee.run(config, "parts", engine=SoloEngine(LoadedModels(tmp_path / "other")))
    assert trainee.started.resumed_at >= progress
    assert first + [report.value for report in trainee.reports] == expected
    assert resumed.validation == whole.validation


def test_rows_of_like_length_share_batches_where_that_is_asked_for(trainee):
    changes = {"effective_batch": 2, "evaluations_per_epoch": 1}
    plain = trainee.run(trainee.config(**changes), "plain").facts.data.padding_share
    grouped = trainee.run(trainee.config(**changes, group_by_length=True), "grouped").facts.data.padding_share
    assert grouped < 0.5 * plain


def test_the_order_by_length_holds_each_row_once_and_follows_from_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(1, 100, 90).tolist()
    order = LengthGrouped(lengths, 8, seed=3)
    first, again = list(order), list(order)
    assert first == again
    assert sorted(first) == list(range(90))
    order.set_epoch(1)
    assert list(order) != first
    assert list(order) == list(LengthGrouped(lengths, 8, seed=4))


def test_padding_is_counted_as_it_is_made():
    batches = Batches(padding=2, capacity=12)
    batches([a_row(9), a_row(3), a_row(4)])
    assert (batches.tokens, batches.positions, batches.unpacked) == (16, 18, 27)
    assert batches.facts().model_dump(exclude_none=True) == {
        "padding_share": pytest.approx(1 / 9),
        "packing_saved_share": pytest.approx(1 / 3),
    }
