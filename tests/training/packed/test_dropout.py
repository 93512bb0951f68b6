"""Dropout masks follow from what they are named by, and from nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_service.training.engines.packed.dropout import keep_mask, module_salt, row_keys, threshold

KEYS = torch.from_numpy(row_keys(seed=7, step=3, rows=8).view(np.int32))
SALT = module_salt("model.layers.0.self_attn.q_proj", torch.device("cpu"))


def thresholds(dropout, rows=8):
    return torch.full((rows,), threshold(dropout), dtype=torch.int16)


def mask(keys=KEYS, salt=SALT, length=64, width=96, dropout=0.3):
    return keep_mask(keys, salt, length, width, thresholds(dropout, len(keys)))


def lowbias32(x):
    """The published code, with Python's integers."""
    x ^= x >> 16
    x = x * 0x7FEB352D & 0xFFFFFFFF
    x ^= x >> 15
    x = x * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


def test_the_hash_is_lowbias32_over_key_and_salt_position_and_pair_of_features():
    found = mask(length=5, width=7)
    for row, position, feature in [(0, 0, 0), (1, 4, 6), (7, 2, 3), (5, 3, 5)]:
        key = int(row_keys(7, 3, 8)[row])
        cell = lowbias32(((key ^ (int(SALT) & 0xFFFFFFFF)) + position * 0x9E3779B1) & 0xFFFFFFFF)
        bits = lowbias32((cell + feature // 2 * 0x85EBCA77) & 0xFFFFFFFF)
        half = bits >> 16 if feature % 2 else bits & 0xFFFF
        signed = half - 0x10000 if half & 0x8000 else half
        assert bool(found[row, position, feature]) == (signed >= threshold(0.3))


@pytest.mark.parametrize("dropout", [0.0, 0.01, 0.1, 0.3, 0.5, 0.9])
def test_the_share_that_is_kept_is_right_for_every_row_position_and_feature(dropout):
    keys = torch.from_numpy(row_keys(1, 2, 64).view(np.int32))
    kept = mask(keys, length=128, width=128, dropout=dropout).double()
    p = 1 - dropout
    for dims, count in [((0, 1, 2), 64 * 128 * 128), ((1, 2), 128 * 128), ((0, 2), 64 * 128), ((0, 1), 64 * 128)]:
        # five standard errors of a fair draw, and the 1/65536 that thresholds are rounded to
        bound = 5.5 * (p * (1 - p) / count) ** 0.5 + 1 / 65536
        assert (kept.mean(dim=dims) - p).abs().max() <= bound
    # neighbours say nothing of each other
    if dropout:
        centred = kept - p
        for shifted in (centred[:, :, 1:] * centred[:, :, :-1], centred[:, 1:] * centred[:, :-1]):
            assert abs(float(shifted.mean())) < 5.5 * p * (1 - p) / shifted.numel() ** 0.5
        assert abs(float((centred[1:] * centred[:-1]).mean())) < 5.5 * p * (1 - p) / kept[1:].numel() ** 0.5


def agreement(one, other):
    return float((one == other).double().mean())


def test_seeds_steps_rows_and_modules_draw_masks_of_their_own():
    reference = mask(dropout=0.5)
    others = {
        "seed": mask(torch.from_numpy(row_keys(8, 3, 8).view(np.int32)), dropout=0.5),
        "step": mask(torch.from_numpy(row_keys(7, 4, 8).view(np.int32)), dropout=0.5),
        "module": mask(salt=module_salt("model.layers.0.self_attn.v_proj", torch.device("cpu")), dropout=0.5),
        "row": reference.roll(1, dims=0),
    }
    bound = 5.5 * 0.5 / reference.numel() ** 0.5
    for name, other in others.items():
        assert abs(agreement(reference, other) - 0.5) < bound, name


def test_keys_are_all_different_over_a_run():
    keys = np.concatenate([row_keys(seed, step, 32) for seed in range(8) for step in range(64)])
    assert len(np.unique(keys)) >= len(keys) - 2  # of 16384 in 2**32 one pair may meet


def test_a_slot_without_dropout_keeps_everything():
    assert threshold(0.0) == -32768
    assert bool(mask(dropout=0.0).all())


def test_the_largest_dropout_still_keeps_something():
    assert threshold(1 - 1e-9) == 32767


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 20),
    padding=st.integers(0, 30),
    rows=st.permutations(list(range(8))),
    dropout=st.floats(0, 0.95),
    width=st.integers(1, 9),
)
def test_a_mask_depends_neither_on_padding_nor_on_the_rows_beside_it(length, padding, rows, dropout, width):
    reference = mask(length=length, width=width, dropout=dropout)
    padded = mask(length=length + padding, width=width, dropout=dropout)
    assert torch.equal(padded[:, :length], reference)
    few = rows[:3]
    alone = keep_mask(KEYS[few], SALT, length, width, thresholds(dropout, 3))
    assert torch.equal(alone, reference[few])
