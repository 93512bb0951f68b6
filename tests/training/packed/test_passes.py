"""Rows of several trials are dealt out over passes, each row once and with what it is to count for."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_service.training.data.tokens import IGNORED, TokenRow
from hpo_service.training.engines.packed.passes import Cutter, RowTable, Share

PADDING, CAPACITY = 99, 5


def row(length, prompt, first):
    ids = np.arange(first, first + length, dtype=np.int32)
    labels = ids.copy()
    labels[:prompt] = IGNORED
    return TokenRow(ids, labels)


@st.composite
def tables(draw):
    rows = [
        row(length, draw(st.integers(1, length - 1)), 100 * number)
        for number, length in enumerate(draw(st.lists(st.integers(2, 30), min_size=1, max_size=20)))
    ]
    slots = sorted(draw(st.sets(st.integers(0, CAPACITY - 1), min_size=1)))
    shares = [
        Share(
            slot=slot,
            rows=np.asarray(draw(st.permutations(range(len(rows))))[: draw(st.integers(1, len(rows)))]),
            owners=np.zeros(0),
            weight=1 / (slot + 1),
        )
        for slot in slots
    ]
    shares = [Share(s.slot, s.rows, 1000 * s.slot + np.arange(len(s.rows)), s.weight) for s in shares]
    return rows, shares, draw(st.integers(1, 200))


@settings(max_examples=60, deadline=None)
@given(tables())
def test_every_row_goes_through_once_in_a_group_of_its_own_slot(given_):
    rows, shares, tokens = given_
    table = RowTable(rows)
    seen, nll_of = [], {}
    for now in Cutter(table, PADDING, CAPACITY, tokens, torch.device("cpu")).cut(shares):
        # padding included; a row that is longer than that goes alone
        assert now.ids.numel() <= tokens or len(now.ids) == 1
        slots = torch.arange(CAPACITY) if now.slots is None else now.slots
        each = len(now.ids) // len(slots)
        assert each * len(slots) == len(now.ids)
        groups = slots.repeat_interleave(each)
        learned = {}
        for position, target, weight, owner in zip(
            now.positions.tolist(), now.targets.tolist(), now.weights.tolist(), now.owners.tolist(), strict=True
        ):
            learned.setdefault(position // now.ids.shape[1], []).append(
                (position % now.ids.shape[1], target, weight, owner)
            )
        for number, ids in enumerate(now.ids):
            which = int(ids[0]) // 100
            length = len(rows[which].ids)
            assert (ids[length:] == PADDING).all()
            assert ids[:length].tolist() == rows[which].ids.tolist()
            slot = int(groups[number])
            seen.append((slot, which))
            share = next(share for share in shares if share.slot == slot)
            owner = share.owners[share.rows.tolist().index(which)]
            labels = rows[which].labels
            expected = [
                (c, int(labels[c + 1]), float(np.float32(share.weight)), int(owner))
                for c in range(length - 1)
                if labels[c + 1] != IGNORED
            ]
            assert learned.get(number, []) == expected
            nll_of[slot] = nll_of.get(slot, 0) + len(expected)
    assert sorted(seen) == sorted((share.slot, int(which)) for share in shares for which in share.rows)
    for share in shares:
        assert nll_of[share.slot] == table.supervised[share.rows].sum()


def test_rows_alike_in_length_go_together_so_that_little_is_padding():
    lengths = [4, 60] * 16
    table = RowTable([row(length, 1, 100 * k) for k, length in enumerate(lengths)])
    shares = [Share(slot, np.arange(32), np.full(32, slot)) for slot in range(4)]
    passes = list(Cutter(table, PADDING, 4, 512, torch.device("cpu")).cut(shares))
    positions = sum(now.ids.numel() for now in passes)
    assert 4 * sum(lengths) / positions > 0.9
    # groups of equal size for all slots: one product per module, and no gathering of weights
    assert all(now.slots is None for now in passes)


def test_a_few_long_rows_do_not_make_a_pass_of_many_times_its_tokens():
    lengths = [50] * 300 + [2048] * 3
    table = RowTable([row(length, 1, k) for k, length in enumerate(lengths)])
    shares = [Share(slot, np.arange(303), np.full(303, slot)) for slot in range(8)]
    sizes = [now.ids.numel() for now in Cutter(table, PADDING, 8, 32_768, torch.device("cpu")).cut(shares)]
    assert max(sizes) <= 32_768
    assert sum(sizes) == 8 * sum(lengths)
    assert len(sizes) == 6


def test_dropout_of_a_slot_goes_with_its_rows_only():
    table = RowTable([row(length, 1, 100 * length) for length in (9, 3, 5, 7)])
    keys = np.asarray([11, 12, 13, 14], dtype=np.uint32)
    shares = [
        Share(0, np.arange(4), np.zeros(4, dtype=np.int64)),
        Share(1, np.arange(4), np.ones(4, dtype=np.int64), keys=keys, dropout=0.25),
    ]
    passes = list(Cutter(table, PADDING, 2, 18, torch.device("cpu")).cut(shares))
    found = {}
    for now in passes:
        slots = torch.tensor([0, 1]) if now.slots is None else now.slots
        groups = slots.repeat_interleave(len(now.ids) // len(slots)).tolist()
        for number, slot in enumerate(groups):
            which = int(now.ids[number, 0]) // 100
            found[slot, which] = (
                int(now.noise.keys[number]),
                float(now.noise.keep[number]),
                int(now.noise.thresholds[number]),
            )
    for number, length in enumerate((9, 3, 5, 7)):
        assert found[0, length][1:] == (1.0, -32768)
        assert found[1, length] == (int(keys[number]), float(np.float32(1 / 0.75)), -16384)
    assert all(now.noise is None for now in Cutter(table, PADDING, 2, 18, torch.device("cpu")).cut(shares[:1]))
