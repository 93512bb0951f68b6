"""Stacked adapters: what is not a slot's own stays exactly nothing, and what is moves as torch's AdamW moves it."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hpo_service.training.engines.packed.dropout import row_keys
from hpo_service.training.engines.packed.eligible import NotPackedError
from hpo_service.training.engines.packed.passes import Noise, Pass
from hpo_service.training.engines.packed.stack import Adapter, Stack, Target

WIDTHS = {"a": (5, 3), "b": (4, 5), "c": (3, 4)}


class Three(nn.Module):
    """Three frozen linear layers side by side."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Linear(*WIDTHS[name]) for name in "abc")
        self.requires_grad_(False)

    def forward(self, x):
        return self.a(x), self.b(x[..., :4]), self.c(x[..., :3])


def targets(model):
    return {name: Target(getattr(model, name), *WIDTHS[name]) for name in WIDTHS}


def drawn(adapter, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(adapter.rank, WIDTHS[name][0], generator=generator),
            torch.randn(WIDTHS[name][1], adapter.rank, generator=generator),
        )
        for name in adapter.scaling
    }


def passing(rows, length=2, slots=None, noise=None):
    empty = torch.zeros(0, dtype=torch.long)
    ids = torch.zeros(rows, length, dtype=torch.long)
    return Pass(ids, slots, empty, empty, empty.float(), empty, noise)


adapters = st.builds(
    Adapter,
    rank=st.integers(1, 4),
    scaling=st.sets(st.sampled_from(sorted(WIDTHS)), min_size=1).map(lambda names: dict.fromkeys(sorted(names), 1.5)),
)


def unused(stack, slot, adapter):
    """For each buffer what lies outside of an adapter's own ranks and modules."""
    for buffer in (stack.weight, stack.first, stack.second, stack.grad):
        for name in stack.targets:
            a, b = stack._views(buffer[slot], name)
            rank = adapter.rank if name in adapter.scaling else 0
            yield a[rank:]
            yield b[:, rank:]


@settings(max_examples=30, deadline=None)
@given(members=st.lists(adapters, min_size=1, max_size=4), decay=st.floats(0, 1), rate=st.floats(1e-5, 1.0))
def test_padded_ranks_and_modules_that_are_no_targets_never_move(members, decay, rate):
    model = Three()
    stack = Stack(targets(model), slots=len(members) + 1, rank=4, device=torch.device("cpu"))
    optimizers = []
    for slot, adapter in enumerate(members):
        stack.put(slot, adapter, {"weight": drawn(adapter, slot)})
        parameter = nn.Parameter(torch.zeros(0))
        optimizers.append(torch.optim.AdamW([parameter], lr=rate, weight_decay=decay, fused=True))
        parameter.data, parameter.grad = stack.weight[slot], stack.grad[slot]
        optimizers[-1].state[parameter] = {
            "step": torch.tensor(0.0),
            "exp_avg": stack.first[slot],
            "exp_avg_sq": stack.second[slot],
        }
    before = stack.weight.clone()
    for step in range(3):
        stack.enter(passing(rows=stack.slots))
        torch.manual_seed(step)
        sum(y.square().sum() for y in model(torch.randn(stack.slots, 2, 5))).backward()
        stack.enter(None)
        for optimizer in optimizers:
            optimizer.step()
        stack.grad.zero_()
    stack.close()
    for slot, adapter in enumerate(members):
        assert not torch.equal(stack.weight[slot], before[slot])
        assert all(not rest.any() for rest in unused(stack, slot, adapter))
    # a slot that nobody is in does not move either
    assert not any(buffer[-1].any() for buffer in (stack.weight, stack.first, stack.second))


def test_gradients_are_those_of_each_adapter_alone():
    model = Three()
    members = [Adapter(2, {"a": 0.5, "c": 2.0}), Adapter(4, dict.fromkeys("abc", 1.0)), Adapter(1, {"b": 3.0})]
    stack = Stack(targets(model), slots=3, rank=4, device=torch.device("cpu"))
    x = torch.randn(6, 2, 5)
    for slot, adapter in enumerate(members):
        stack.put(slot, adapter, {"weight": drawn(adapter, slot)})
    stack.enter(passing(rows=6))
    sum(y.square().sum() for y in model(x)).backward()
    stack.close()
    for slot, adapter in enumerate(members):
        weights = {name: [w.requires_grad_() for w in pair] for name, pair in drawn(adapter, slot).items()}
        rows = x[2 * slot : 2 * slot + 2]
        loss = 0.0
        for name, (width, _) in WIDTHS.items():
            y = getattr(model, name)(rows[..., :width])
            if name in weights:
                a, b = weights[name]
                y = y + rows[..., :width] @ a.T @ b.T * adapter.scaling[name]
            loss = loss + y.square().sum()
        loss.backward()
        for name, (a, b) in stack.take(slot, adapter, "grad").items():
            torch.testing.assert_close(a, weights[name][0].grad)
            torch.testing.assert_close(b, weights[name][1].grad)


def test_groups_in_any_order_take_the_weights_of_their_own_slots():
    model = Three()
    members = [Adapter(2, {"a": 1.0}), Adapter(3, {"a": 2.0})]
    stack = Stack(targets(model), slots=2, rank=3, device=torch.device("cpu"))
    for slot, adapter in enumerate(members):
        stack.put(slot, adapter, {"weight": drawn(adapter, slot)})
    x = torch.randn(3, 2, 5)
    order = [1, 0, 1]
    stack.enter(passing(rows=3, slots=torch.tensor(order)))
    found, _, _ = model(x)
    stack.enter(None)
    plain, _, _ = model(x)
    for row, slot in enumerate(order):
        a, b = drawn(members[slot], slot)["a"]
        torch.testing.assert_close(found[row], plain[row] + x[row] @ a.T @ b.T * members[slot].scaling["a"])
    stack.close()
    assert torch.equal(model(x)[0], plain)
    assert not model.a._forward_hooks


def test_a_row_that_is_no_number_spoils_the_gradient_of_its_own_slot_alone():
    model = Three()
    stack = Stack(targets(model), slots=2, rank=1, device=torch.device("cpu"))
    adapter = Adapter(1, dict.fromkeys("abc", 1.0))
    for slot in range(2):
        stack.put(slot, adapter, {"weight": drawn(adapter, slot)})
    x = torch.randn(4, 2, 5)
    x[0, 0, 0] = torch.nan
    stack.enter(passing(rows=4))
    sum(y.square().sum() for y in model(x)).backward()
    stack.close()
    assert stack.grad[0].isnan().any()
    assert stack.grad[1].isfinite().all()


def test_dropout_before_an_adapter_is_scaled_by_what_is_kept():
    model = Three()
    adapter = Adapter(2, {"a": 1.0}, dropout=0.5)
    stack = Stack(targets(model), slots=1, rank=2, device=torch.device("cpu"))
    a, b = drawn(adapter, 0)["a"]
    stack.put(0, adapter, {"weight": {"a": (a, b)}})
    keys = torch.from_numpy(row_keys(0, 0, 4000).view(np.int32))
    noise = Noise(keys, torch.zeros(4000, dtype=torch.int16), torch.full((4000, 1, 1), 2.0))
    x = torch.ones(4000, 2, 5)
    plain = model(x)[0]
    stack.enter(passing(rows=4000, noise=noise))
    update = model(x)[0] - plain
    stack.close()
    torch.testing.assert_close(update.mean(dim=(0, 1)), torch.ones(5) @ a.T @ b.T, rtol=0.1, atol=0.1)
    assert update.std() > 0.1


def test_what_was_put_can_be_taken_and_a_scrubbed_place_holds_nothing():
    stack = Stack(targets(Three()), slots=2, rank=4, device=torch.device("cpu"))
    adapter = Adapter(3, {"b": 2.0, "c": 1.0})
    state = {kind: drawn(adapter, seed) for seed, kind in enumerate(("weight", "first", "second", "grad"))}
    stack.put(1, adapter, state)
    for kind, expected in state.items():
        found = stack.take(1, adapter, kind)
        assert all(torch.equal(x, y) for name in expected for x, y in zip(found[name], expected[name], strict=True))
    kept = copy.deepcopy(stack.take(1, adapter))
    stack.scrub(1)
    assert not any(buffer.any() for buffer in stack._buffers.values())
    assert not any(part.scale.any() for part in stack._parts.values())
    assert all(not x.any() for pair in stack.take(1, adapter).values() for x in pair)
    assert any(x.any() for pair in kept.values() for x in pair)
    stack.close()


def test_a_stack_holds_what_is_no_wider_than_itself():
    stack = Stack({"a": targets(Three())["a"]}, slots=1, rank=2, device=torch.device("cpu"))
    assert stack.holds(Adapter(2, {"a": 1.0}))
    assert not stack.holds(Adapter(3, {"a": 1.0}))
    assert not stack.holds(Adapter(2, {"b": 1.0}))
    stack.close()


def test_a_module_that_sees_rows_mixed_is_refused():
    model = Three()
    stack = Stack(targets(model), slots=1, rank=2, device=torch.device("cpu"))
    stack.enter(passing(rows=2))
    with pytest.raises(NotPackedError, match=r"a is given \(4, 5\) for rows \(2, 2\): its rows are mixed"):
        model(torch.randn(4, 5))
    stack.close()


def one_slot(model, adapter):
    stack = Stack(targets(model), 2, adapter.rank, torch.device("cpu"))
    stack.put(1, adapter, {"weight": drawn(adapter, 3)})
    return stack


def test_merged_weights_give_what_the_adapter_adds_and_the_base_comes_back_bit_for_bit():
    model, adapter = Three(), Adapter(2, {"a": 1.5, "c": 0.5})
    stack = one_slot(model, adapter)
    before = {name: (parameter, parameter.clone()) for name, parameter in model.named_parameters()}
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        stack.enter(passing(3, slots=torch.tensor([1])))
        apart = model(x)
        stack.enter(None)
        with stack.merged(1):
            together = model(x)
    assert not torch.allclose(together[0], model(x)[0])
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other)
    for name, parameter in model.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])
    stack.close()


def test_the_base_comes_back_when_a_pass_through_merged_weights_fails():
    model = Three()
    stack = one_slot(model, Adapter(1, {"b": 1.0}))
    weight = model.b.weight
    with pytest.raises(RuntimeError, match="shapes"), stack.merged(1):
        model.b(torch.zeros(2, 3))
    assert model.b.weight is weight
    stack.close()


def test_merging_is_worth_it_for_many_tokens_and_small_float32_layers_only(monkeypatch):
    model = Three()
    stack = one_slot(model, Adapter(1, {"b": 1.0}))
    assert stack.worth_merging(4 * 5)
    assert not stack.worth_merging(4 * 5 - 1)
    monkeypatch.setattr("hpo_service.training.engines.packed.stack.MERGE_ELEMENTS", 46)
    assert not stack.worth_merging(100)
    monkeypatch.undo()
    model.b.to(torch.bfloat16)
    assert not stack.worth_merging(100)
    stack.close()
