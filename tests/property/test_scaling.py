"""What holds for every configuration that is carried over, whatever models and rules there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.decide.planning.bracket import GUARD, factors
from hpo_service.domain.decide.transfer.scaling import (
    HIGHEST_RATE,
    SCALING_RULES,
    carry_over,
    scaled_rank,
    width_factor,
)
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.sections.transfer import TransferSpec
from hpo_service.domain.trial.model_facts import ModelFacts

WIDTHS = st.integers(16, 16384)
RULES = st.builds(
    TransferSpec,
    rule=st.sampled_from(sorted(SCALING_RULES)),
    rank_factor=st.floats(1, 16),
    rank_cap=st.integers(1, 1024),
    width_exponent=st.floats(0, 2),
    bracket=st.lists(st.floats(0.05, 20), min_size=1, max_size=5, unique=True),
)
CONFIGS = st.fixed_dictionaries(
    {"learning_rate": st.floats(1e-6, 1e-2), "lora_rank": st.integers(1, 1024)},
    optional={
        "lora_dropout": st.floats(0, 0.5),
        "lora_alpha_multiplier": st.sampled_from([0.5, 1.0, 2.0]),
        "method": st.sampled_from(["lora", "rslora", "dora", "qlora"]),
    },
)


@given(CONFIGS, WIDTHS, WIDTHS, RULES)
def test_a_carried_configuration_is_always_a_legal_one(config, small: int, large: int, rule: TransferSpec) -> None:
    training = Hyperparameters().with_values(config)
    facts = [ModelFacts(family="llama", hidden_size=width) for width in (small, large)]
    carried = carry_over(config, training, facts[0], facts[1], rule)
    rate = float(carried.parameters["learning_rate"])
    resolved = Hyperparameters().with_values({**carried.parameters, "learning_rate": min(HIGHEST_RATE, rate)})
    assert rate > 0
    assert resolved.lora_rank >= training.lora_rank
    assert resolved.lora_dropout == training.lora_dropout
    assert resolved.alpha / resolved.lora_rank == pytest.approx(training.alpha / training.lora_rank)
    assert carried.reason
    tried = factors(rule.bracket, rate, large)
    assert tried == sorted({*rule.bracket, *tried})
    assert set(tried) - set(rule.bracket) <= {GUARD}


@given(WIDTHS, WIDTHS, WIDTHS, st.floats(0, 2))
def test_carrying_in_two_steps_is_carrying_in_one(first: int, second: int, third: int, exponent: float) -> None:
    steps = width_factor(first, second, exponent) * width_factor(second, third, exponent)
    assert steps == pytest.approx(width_factor(first, third, exponent))


@given(st.integers(1, 1024), st.integers(1, 1024), RULES)
def test_a_larger_rank_never_becomes_the_smaller_one(one: int, other: int, rule: TransferSpec) -> None:
    low, high = sorted((one, other))
    assert scaled_rank(low, rule) <= scaled_rank(high, rule)
