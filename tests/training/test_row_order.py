"""The orders of the training rows: each row once, by length where that is asked for, and by seed otherwise."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from hpo_service.training.engines.row_order import RowOrder, row_order

LENGTHS = np.random.default_rng(0).integers(5, 200, 203)


@pytest.mark.parametrize("order", ["shuffled", "curriculum", "progressive"])
@pytest.mark.parametrize("rows", [1, 2, 3, 9, 203])
def test_every_order_holds_each_row_once_in_every_epoch(order, rows):
    for epoch in (0, 1):
        assert sorted(row_order(order, LENGTHS[:rows], 3, epoch).tolist()) == list(range(rows))


@pytest.mark.parametrize("order", ["curriculum", "progressive"])
def test_an_order_follows_from_the_seed_and_is_shuffled_from_the_second_epoch_on(order):
    first = row_order(order, LENGTHS, 3, 0).tolist()
    assert row_order(order, LENGTHS, 3, 0).tolist() == first
    assert row_order(order, LENGTHS, 4, 0).tolist() != first
    drawn = torch.randperm(len(LENGTHS), generator=torch.Generator().manual_seed(3 + 1))
    assert row_order(order, LENGTHS, 3, 1).tolist() == drawn.tolist()


def test_a_curriculum_goes_through_ten_parts_from_short_to_long_each_shuffled():
    lengths = LENGTHS[:200]
    parts = np.split(lengths[row_order("curriculum", lengths, 3, 0)], 10)
    assert all(part.max() <= following.min() for part, following in pairwise(parts))
    assert all(np.any(np.diff(part) < 0) for part in parts)


def test_the_progressive_limit_grows_and_short_rows_are_left_for_the_end():
    lengths = LENGTHS[:200]
    found = lengths[row_order("progressive", lengths, 3, 0)]
    assert found[:50].max() <= np.quantile(lengths, 0.5, method="higher")
    assert found[50:100].max() <= np.quantile(lengths, 0.75, method="higher")
    assert found[50:100].max() > np.median(lengths)
    assert np.mean(found[100:] < np.median(lengths)) > 0.1
    assert found[100:].max() == lengths.max()


def test_the_sampler_draws_the_order_of_the_epoch_that_it_is_told():
    sampler = RowOrder("curriculum", LENGTHS, 5)
    assert len(sampler) == len(LENGTHS)
    assert list(sampler) == row_order("curriculum", LENGTHS, 5, 0).tolist()
    sampler.set_epoch(1)
    assert list(sampler) == row_order("curriculum", LENGTHS, 5, 1).tolist()
