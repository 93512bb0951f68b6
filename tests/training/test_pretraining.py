"""Training from scratch: determinism, the schedule, and what it refuses."""

import math

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from hpo_service.errors import DataError
from hpo_service.training.builtin.architecture import Architecture
from hpo_service.training.builtin.family import token_stream, train_tokenizer
from hpo_service.training.builtin.pretraining import Outcome, PretrainingPlan, pretrain

TEXT = "def spam(eggs):\n    return eggs + 1\n\n"
SHAPE = Architecture(hidden_size=32, intermediate_size=64, layers=1, heads=2, positions=64)
PLAN = PretrainingPlan(steps=12, batch_size=2, length=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer([TEXT * 20], vocabulary=270)


@pytest.fixture(scope="module")
def tokens(tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    return token_stream(tokenizer, [TEXT * 40] * 4)


def trained(
    tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor, seed: int, plan: PretrainingPlan = PLAN
) -> tuple[torch.Tensor, Outcome]:
    model = SHAPE.build(tokenizer, seed)
    outcome = pretrain(model, tokens, plan, seed, lambda _message, _fraction: None, threads=1)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), outcome


def test_the_same_seed_gives_the_same_weights_and_another_seed_gives_others(
    tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor
) -> None:
    first, outcome = trained(tokenizer, tokens, seed=1)
    again, outcome_again = trained(tokenizer, tokens, seed=1)
    other, _ = trained(tokenizer, tokens, seed=2)
    assert torch.equal(first, again)
    assert outcome == outcome_again
    assert not torch.equal(first, other)


def test_the_loss_falls_far_below_that_of_guessing(tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor) -> None:
    plan = PretrainingPlan(steps=60, batch_size=4, length=16, learning_rate=1e-2)
    _, outcome = trained(tokenizer, tokens, seed=0, plan=plan)
    assert outcome.loss < math.log(len(tokenizer)) / 2
    assert outcome.tokens == 60 * 4 * 16


def test_neither_the_global_generator_nor_the_thread_count_is_left_changed(
    tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor
) -> None:
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    trained(tokenizer, tokens, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_progress_rises_from_the_start_to_nearly_the_end(
    tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor
) -> None:
    told: list[tuple[str, float]] = []
    pretrain(SHAPE.build(tokenizer, 0), tokens, PLAN, 0, lambda message, fraction: told.append((message, fraction)))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] >= 0.9
    assert all(message.startswith("loss ") for message, _ in told)


def test_a_text_shorter_than_one_batch_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match="20 tokens are too few to pre-train on: one batch takes 32"):
        pretrain(SHAPE.build(tokenizer, 0), torch.arange(20), PLAN, 0, lambda _message, _fraction: None)


def test_the_rate_warms_up_then_falls_to_a_tenth() -> None:
    plan = PretrainingPlan(steps=100, batch_size=1, length=1, learning_rate=1.0, warmup=0.1)
    rates = [plan.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_the_model_takes_its_special_tokens_from_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    config = SHAPE.build(tokenizer, 0).config
    assert config.vocab_size == len(tokenizer)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
