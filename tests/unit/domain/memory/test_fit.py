"""What fits, what is refused and with which words."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import at_rest_gb, estimate, side_by_side
from hpo_service.domain.memory.fit import (
    PLANNED_SHARE,
    REFUSED_ABOVE,
    PackFit,
    check_at_rest,
    largest_fit,
    memory_case,
    pack_that_fits,
    remedies,
)
from hpo_service.domain.memory.micro_batches import micro_batch, smaller_micro_batches
from hpo_service.errors import DoesNotFitError
from tests.unit.domain.memory.test_estimate import LLAMA_8B

DEMAND = Demand(LLAMA_8B, micro_batch=8, length=2048)
SMALLEST = Demand(LLAMA_8B, length=0, checkpointing=True, optimizer="adamw_8bit")


@given(st.integers(1, 300), st.integers(1, 64))
def test_halving_keeps_the_effective_batch_and_ends_with_one_row(effective, limit):
    sizes = smaller_micro_batches(effective, micro_batch(effective, limit))
    assert all(effective % size == 0 for size in sizes)
    assert all(2 * after <= before for before, after in pairwise(sizes))
    assert sizes[-1] == 1


@given(st.floats(1, 400))
def test_the_largest_micro_batch_that_fits_is_taken(capacity):
    least = estimate(replace(DEMAND, micro_batch=1)).total_gb
    if least > REFUSED_ABOVE * capacity:
        with pytest.raises(DoesNotFitError) as raised:
            largest_fit(DEMAND, 16, capacity)
        assert raised.value.over_gb == pytest.approx(least - capacity)
        return
    fit = largest_fit(DEMAND, 16, capacity)
    assert fit.micro_batch in (8, 4, 2, 1)
    assert fit.micro_batch == 1 or fit.estimate.total_gb <= PLANNED_SHARE * capacity
    if fit.micro_batch < 8:
        above = estimate(replace(DEMAND, micro_batch=2 * fit.micro_batch)).total_gb
        assert above > PLANNED_SHARE * capacity


def test_nothing_is_cut_or_refused_where_the_device_is_not_known():
    assert largest_fit(DEMAND, 16, None).micro_batch == 8
    check_at_rest(DEMAND, None)


@given(st.floats(1, 400), st.integers(1, 8))
def test_as_many_trials_fit_side_by_side_as_there_is_room_for_in_small_passes_then_the_largest_passes(capacity, most):
    found = pack_that_fits(DEMAND, most, capacity, (2_048, 32_768), 4_096)

    def fits(trials, tokens):
        return side_by_side(DEMAND, trials, tokens, 4_096).total_gb <= PLANNED_SHARE * capacity

    assert 1 <= found.trials <= most
    assert found.trials == 1 or fits(found.trials, 2_048)
    assert 2_048 <= found.pass_tokens <= 32_768
    assert found.pass_tokens == 2_048 or fits(found.trials, found.pass_tokens)
    # a pass a half larger would not have fitted
    assert found.pass_tokens == 32_768 or not fits(found.trials, found.pass_tokens * 3 // 2)
    if found.trials < most:
        assert not fits(found.trials + 1, 2_048)
        assert found.short.startswith(f"{found.trials + 1} trials would need about ")
        assert found.short.endswith(f" GB of {capacity:.2f}")
    else:
        assert found.short == ""


def test_an_eight_billion_model_is_packed_on_80_gb_in_passes_that_fit_there():
    demand = replace(DEMAND, micro_batch=1)
    assert pack_that_fits(demand, 8, 79.0, (512, 32_768), 2_093) == PackFit(8, 4_096)


def test_where_the_device_is_not_known_all_trials_fit():
    assert pack_that_fits(DEMAND, 8, None, (512, 32_768), 4_096) == PackFit(8, 32_768)


def test_a_correction_learned_from_peaks_plans_smaller():
    capacity = estimate(DEMAND).total_gb / PLANNED_SHARE
    assert largest_fit(DEMAND, 16, capacity).micro_batch == 8
    assert largest_fit(replace(DEMAND, correction=1.3), 16, capacity).micro_batch < 8


def test_a_refusal_names_what_is_needed_what_is_there_and_what_to_do():
    with pytest.raises(DoesNotFitError) as raised:
        largest_fit(DEMAND, 16, 12.0)
    words = str(raised.value)
    assert words.startswith(
        "needs about 36.42 GB for one row of 2048 tokens, method lora of rank 16 (activations 15.03, base "
    )
    assert words.endswith(
        "and 12.00 GB are there: shorten data.max_length, switch activation checkpointing on, lower lora_rank, "
        "use an 8-bit optimizer, hold the base in 4 bits (method qlora), or use a larger device"
    )
    assert "\n" not in words
    assert raised.value.over_gb == pytest.approx(24.42, abs=0.01)
    assert not raised.value.ran_out


def test_what_cannot_even_be_held_is_refused_before_its_first_batch():
    check_at_rest(DEMAND, at_rest_gb(DEMAND))
    with pytest.raises(DoesNotFitError, match=r"method full \(optimizer 64\.24, "):
        check_at_rest(replace(DEMAND, method="full"), 80.0)


@pytest.mark.parametrize(
    "demand, expected",
    [
        (
            Demand(LLAMA_8B, method="full", checkpointing=True, optimizer="adamw_8bit"),
            ["shorten data", "train an adapter"],
        ),
        (Demand(LLAMA_8B, quantisation="nf4", method="prefix", checkpointing=True), ["shorten data", "use an 8-bit"]),
        (
            Demand(LLAMA_8B, length=0, checkpointing=True, optimizer="adamw_8bit"),
            ["lower lora_rank", "hold the base in 4"],
        ),
    ],
)
def test_only_remedies_that_are_still_open_are_named(demand, expected):
    words = remedies(demand).split(", ")
    assert len(words) == len(expected) + 1
    assert all(word.startswith(start) for word, start in zip(words, [*expected, "or use"], strict=True))


def test_without_a_demand_every_remedy_is_named():
    assert remedies(None).count(", ") == 6


def test_models_and_methods_are_corrected_apart():
    assert len({memory_case(model, method) for model in ("a", "b") for method in ("lora", "qlora")}) == 4
