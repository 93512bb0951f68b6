"""A configuration carried to a larger model: rank and learning rate change by rule, the rest stays."""

from __future__ import annotations

import math

import pytest

from hpo_service.domain.decide.transfer.calibration import Calibration
from hpo_service.domain.decide.transfer.scaling import (
    FAR_DIVISOR,
    SCALING_RULES,
    Known,
    carry_over,
    scaled_rank,
    width_factor,
)
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.transfer import TransferSpec
from hpo_service.domain.trial.model_facts import ModelFacts

SMALL, LARGE = ModelFacts(family="llama", hidden_size=128), ModelFacts(family="llama", hidden_size=512)
RULE = TransferSpec()


def carried(parameters: dict[str, ParameterValue], large: ModelFacts = LARGE, rule: TransferSpec = RULE):
    return carry_over(parameters, Hyperparameters().with_values(parameters), SMALL, large, rule)


def test_the_learning_rate_falls_with_the_square_root_of_the_width() -> None:
    assert width_factor(128, 512, 0.5) == 0.5
    full = {"method": "full", "learning_rate": 4e-4}
    assert carried(full).parameters["learning_rate"] == pytest.approx(2e-4)


def test_a_learning_rate_that_was_not_searched_is_carried_over_too() -> None:
    assert carried({"lora_rank": 8}).parameters["learning_rate"] == pytest.approx(1e-4 / math.sqrt(2))


def test_the_rank_grows_and_everything_else_is_copied() -> None:
    config = carried({"lora_rank": 8, "lora_dropout": 0.1, "lora_alpha_multiplier": 2.0, "warmup_ratio": 0.07})
    assert config.parameters["lora_rank"] == 16
    assert config.parameters["lora_dropout"] == 0.1
    assert config.parameters["lora_alpha_multiplier"] == 2.0
    assert config.parameters["warmup_ratio"] == 0.07


def test_the_rank_stops_at_the_cap_but_never_falls() -> None:
    assert scaled_rank(48, RULE) == 64
    assert scaled_rank(128, RULE) == 128, "a rank that was found good is not taken away"
    assert scaled_rank(5, TransferSpec(rank_factor=1.5)) == 8


def test_full_fine_tuning_has_no_rank_to_carry() -> None:
    config = carried({"method": "full", "learning_rate": 1e-5})
    assert "lora_rank" not in config.parameters
    assert "rank" not in config.reason.split(";")[0]


def test_every_step_is_in_the_reason() -> None:
    reason = carried({"learning_rate": 4e-4, "lora_rank": 8}).reason
    rank, rate = reason.split("; ")
    assert rank == "rank 8 x 2, at most 64, = 16"
    assert rate == "learning rate 0.0004 x (128/512)^0.5 x (16/8)^-0.5, since alpha grows with rank, = 0.000141"


def test_another_family_gets_a_warning() -> None:
    other = ModelFacts(family="qwen2", hidden_size=512)
    assert "llama and qwen2 are different families" in carried({"learning_rate": 1e-4}, other).reason
    assert "families" not in carried({"learning_rate": 1e-4}).reason


@pytest.mark.parametrize("name", SCALING_RULES)
def test_a_rule_names_its_source_and_takes_no_rank_away(name: str) -> None:
    rule = SCALING_RULES[name]
    assert rule.summary
    assert rule.source
    assert rule.rank(8, RULE)[0] >= 8


@pytest.mark.parametrize("name", sorted(SCALING_RULES.keys() - {"tinker"}))
def test_a_model_of_equal_size_keeps_its_learning_rate(name: str) -> None:
    rate, _ = SCALING_RULES[name].learning_rate(3e-4, SMALL, SMALL, Known(RULE))
    assert rate == pytest.approx(3e-4)


def test_a_study_names_its_rule() -> None:
    parameters: dict[str, ParameterValue] = {"learning_rate": 4e-4, "lora_rank": 8}
    copied = carried(parameters, rule=TransferSpec(rule="copy"))
    assert copied.parameters == parameters
    assert copied.reason == "rank as it is = 8; learning rate as it is = 0.0004"


@pytest.mark.parametrize("weights, divisor", [(1, 1), (7, 2), (10, FAR_DIVISOR), (70, FAR_DIVISOR)])
def test_practitioners_halve_and_quarter_from_ten_times_the_weights(weights: int, divisor: int) -> None:
    small = SMALL.model_copy(update={"parameters": 1_000_000})
    large = LARGE.model_copy(update={"parameters": weights * 1_000_000})
    rate, words = SCALING_RULES["practitioners"].learning_rate(4e-4, small, large, Known(RULE))
    assert rate == pytest.approx(4e-4 / divisor)
    assert f"{weights} times as large" in words


def test_practitioners_leave_the_rank_out_of_the_rate() -> None:
    config = carried({"learning_rate": 4e-4, "lora_rank": 8}, rule=TransferSpec(rule="practitioners"))
    assert config.parameters["lora_rank"] == 16
    assert config.parameters["learning_rate"] == pytest.approx(1e-4), "16 times the width squared"


def test_tinkers_formula_asks_for_the_target_alone() -> None:
    rule = TransferSpec(rule="tinker")
    large = ModelFacts(family="llama", hidden_size=4000)
    for rate in (1e-5, 1e-3):
        config = carried({"learning_rate": rate, "lora_rank": 8}, large, rule)
        assert config.parameters == {"learning_rate": pytest.approx(5e-4 * 0.5**0.781), "lora_rank": 8}


def test_a_family_that_tinkers_formula_does_not_know_is_scaled_by_width_and_told_so() -> None:
    config = carried({"learning_rate": 4e-4}, ModelFacts(family="gpt2", hidden_size=512), TransferSpec(rule="tinker"))
    assert config.parameters["learning_rate"] == pytest.approx(2e-4)
    assert "tinker's formula knows llama" in config.reason


def test_a_calibrated_rule_learns_from_studies_of_the_family() -> None:
    rule = TransferSpec(rule="calibrated")
    parameters: dict[str, ParameterValue] = {"learning_rate": 4e-4, "lora_alpha": 16.0}
    found = [Calibration("before", "llama", 128, 512, 1.0), Calibration("other", "qwen2", 128, 512, 0.01)]
    training = Hyperparameters().with_values(parameters)
    config = carry_over(parameters, training, SMALL, LARGE, rule, found)
    assert config.parameters["learning_rate"] == pytest.approx(4e-4 * 0.25**0.25), "half of the way to width^0"
    assert "learned from before" in config.reason
    assert "other" not in config.reason
    plain = carry_over(parameters, training, SMALL, LARGE, rule)
    assert plain.parameters["learning_rate"] == pytest.approx(2e-4)
    assert "no earlier study of llama to learn from" in plain.reason


def test_a_rate_falls_with_the_rank_where_alpha_grows_with_it() -> None:
    config = carried({"learning_rate": 4e-4, "lora_rank": 8}, SMALL)
    assert config.parameters["learning_rate"] == pytest.approx(4e-4 / math.sqrt(2))
    assert "x (16/8)^-0.5, since alpha grows with rank, = 0.000283" in config.reason


def test_a_fixed_alpha_keeps_the_rate_and_the_reason_says_how_the_scale_changes() -> None:
    config = carried({"learning_rate": 4e-4, "lora_rank": 8, "lora_alpha": 16.0}, SMALL)
    assert config.parameters["learning_rate"] == pytest.approx(4e-4)
    assert "(alpha 16 is fixed, so the adapter's scale falls from 2 to 1)" in config.reason


def test_rslora_makes_up_for_half_of_the_growth() -> None:
    config = carried({"learning_rate": 4e-4, "lora_rank": 8, "method": "rslora"}, SMALL)
    assert config.parameters["learning_rate"] == pytest.approx(4e-4 * 2**-0.25)
    fixed = carried({"lora_rank": 8, "method": "rslora", "lora_alpha": 16.0}, SMALL)
    assert "scale falls from 5.66 to 4" in fixed.reason


def test_a_rank_at_its_cap_leaves_the_rate_alone() -> None:
    assert carried({"learning_rate": 4e-4, "lora_rank": 64}, SMALL).parameters["learning_rate"] == 4e-4
