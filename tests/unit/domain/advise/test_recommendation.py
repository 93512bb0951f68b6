"""Recommendations for the models and cards of the guides' tables: the same values, or ones within their ranges."""

import pytest

from hpo_service.domain.advise.batch_plan import plan_batch, rate_for_batch
from hpo_service.domain.advise.guides import TASKS
from hpo_service.domain.advise.lora_parameters import LoraParameters
from hpo_service.domain.advise.recommendation import Situation, recommend
from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.errors import DoesNotFitError, UsageError
from tests.unit.domain.advise.shapes import shape


def values(name, rows, gb, **given):
    found = recommend(Situation(shape(name), rows, gpu_gb=gb, **given))
    return {each.name: each.value for each in found.advice}


def test_a_7b_model_on_24_gb_is_given_what_works_90_percent_of_the_time():
    found = values("Llama-2-7B", 5000, 24)
    expected = {"method": "lora", "learning_rate": 2e-4, "lora_rank": 16, "lora_alpha_multiplier": 1, "epochs": 3}
    expected |= {"target_modules": "all-linear", "scheduler": "cosine", "warmup_ratio": 0.03, "precision": "bf16"}
    assert {name: found[name] for name in expected} == expected
    assert found["micro_batch"] * found["accumulation"] == found["effective_batch"] == 16


def test_fewer_rows_are_gone_over_more_often_and_more_carefully():
    found = values("Llama-2-7B", 800, 80)
    assert (found["epochs"], found["warmup_ratio"], found["weight_decay"], found["max_grad_norm"]) == (
        5,
        0.1,
        0.05,
        0.3,
    )
    assert (found["lora_rank"], found["effective_batch"]) == (8, 8)
    assert values("Llama-2-7B", 60_000, 80)["epochs"] == values("Llama-2-7B", 200_000, 80)["epochs"] == 1


@pytest.mark.parametrize(
    "name, low, high", [("1B", 2e-4, 1e-3), ("Mistral-7B", 1e-4, 3e-4), ("13B", 5e-5, 2e-4), ("70B", 1e-5, 1e-4)]
)
def test_rates_lie_in_the_guides_ranges_for_the_size(name, low, high):
    assert low <= values(name, 5000, None)["learning_rate"] <= high


@pytest.mark.parametrize(
    "name, gb, method, optimizer",
    [
        ("Llama-2-7B", 24, "lora", "adamw_torch_fused"),
        ("Llama-2-7B", 16, "qlora", "adamw_torch_fused"),
        ("13B", 24, "qlora", "adamw_torch_fused"),
        ("13B", 48, "lora", "adamw_torch_fused"),
        ("70B", 48, "qlora", "adamw_torch_fused"),
        ("70B", 42, "qlora", "paged_adamw_8bit"),
        ("70B", None, "lora", "adamw_torch_fused"),
    ],
)
def test_the_method_is_the_first_that_fits_the_card(name, gb, method, optimizer):
    found = values(name, 5000, gb)
    assert (found["method"], found["optimizer"]) == (method, optimizer)


def test_what_fits_no_card_is_refused_with_what_it_needs():
    with pytest.raises(DoesNotFitError, match="needs about 4"):
        recommend(Situation(shape("70B"), 5000, gpu_gb=24))


def test_qlora_starts_at_half_of_loras_rate():
    assert values("Llama-2-7B", 5000, 16)["learning_rate"] == 1e-4


def test_tasks_move_the_rank():
    assert [values("Mistral-7B", 5000, 80, task=task)["lora_rank"] for task in TASKS] == [8, 16, 32]


def test_every_setting_has_a_reason_and_a_source_and_the_section_is_a_training_section():
    found = recommend(Situation(shape("Mistral-7B"), 20_000, gpu_gb=24, gpus=3))
    assert all(each.reason and each.source for each in found.advice)
    training = TrainingSpec.model_validate(found.training)
    assert training.effective_batch % 3 == 0
    assert "square-root rule" in next(each.reason for each in found.advice if each.name == "learning_rate")


def demand(micro_batch=64, **given):
    training = TrainingSpec(effective_batch=64, micro_batch=micro_batch, **given)
    return Demand.of(training, shape("Llama-2-7B"), length=1024)


def test_a_batch_is_cut_by_halves_until_it_fits():
    small, large = plan_batch(demand(), 64, 1, 24.0), plan_batch(demand(), 64, 1, 80.0)
    assert small.micro_batch < large.micro_batch
    assert small.micro_batch * small.accumulation == large.micro_batch * large.accumulation == 64
    assert "want bf16 and clipping" in plan_batch(demand(micro_batch=1), 64, 1, None).reasons[1]


def test_gpus_share_a_batch_equally_or_not_at_all():
    assert plan_batch(demand(), 64, 4, None).accumulation * plan_batch(demand(), 64, 4, None).micro_batch == 16
    with pytest.raises(UsageError, match="63 would do"):
        plan_batch(demand(), 64, 3, None)


def test_the_rate_goes_as_the_root_of_the_batch():
    assert rate_for_batch(2e-4, 16, 64) == pytest.approx(4e-4)


def test_adapters_are_counted_as_the_guides_count_them():
    found = LoraParameters.of(shape("Mistral-7B"), [8, 64], ["minimal", "all-linear"])
    # the guides' "about 4M" and "about 32M" for r 8 and r 64 on q and v
    assert found.presets["minimal"] == {8: 3_407_872, 64: 27_262_976}
    assert found.base == 7_241_465_856
    q = next(by_rank for matrix, by_rank in found.modules if matrix.role == "q")
    assert q == {8: 8 * 8192 * 32, 64: 64 * 8192 * 32}
