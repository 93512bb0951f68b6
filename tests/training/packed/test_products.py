"""Products through oneDNN: the numbers of a plain linear layer, where they come sooner, and no trace left."""

import pytest
import torch
from torch import nn

from hpo_service.training.engines.packed import products
from hpo_service.training.engines.packed.products import fast_products, slow_layers
from tests.training.packed.packs import Workshop

AMD, INTEL = "vendor_id\t: AuthenticAMD\n", "vendor_id\t: GenuineIntel\n"


def linear(d_in, d_out, *, bias):
    torch.manual_seed(1)
    return nn.Linear(d_in, d_out, bias=bias).requires_grad_(False)


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """Have the machine's processor say what it is."""

    def says(text, capability="AVX512"):
        file = tmp_path / "cpuinfo"
        file.write_text(text)
        monkeypatch.setattr(products, "CPU_INFO", file)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)

    return says


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (3, 5, 24), (1, 24), (0, 24)])
def test_product_and_gradient_are_those_of_the_layer(shape, bias):
    layer = linear(24, 10, bias=bias)
    results = []
    for layers in ([], [layer]):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
        with fast_products(layers):
            y = layer(x)
            (y.square().sum() / 2).backward()
        results.append((y.detach(), x.grad))
    for plain, quicker in zip(*results, strict=True):
        assert quicker.shape == plain.shape
        torch.testing.assert_close(quicker, plain, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_is_not_laid_out_in_rows_is_taken_too():
    layer, x = linear(6, 4, bias=False), torch.randn(5, 6, requires_grad=True)
    with fast_products([layer]):
        layer(x).t().contiguous().t().sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(5, 6))


def test_layers_are_as_they_were_afterwards_also_when_something_fails():
    layer = linear(4, 4, bias=True)
    with pytest.raises(AttributeError, match="numel"), fast_products([layer]):
        layer(None)
    assert "forward" not in vars(layer)


def test_on_amd_plain_float32_layers_are_quicker_and_no_others(processor):
    processor(AMD)

    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 4), Own(4, 4), nn.Linear(4, 4, dtype=torch.bfloat16), nn.LayerNorm(4))
    if not torch.backends.mkl.is_available():
        pytest.skip("this torch has no MKL to be slow")
    assert slow_layers(model, torch.float32) == [model[0]]
    assert slow_layers(model, torch.bfloat16) == []


@pytest.mark.parametrize("text, capability", [(INTEL, "AVX512"), (AMD, "AVX2"), ("", "AVX512")])
def test_where_mkl_is_as_fast_nothing_changes(processor, text, capability):
    processor(text, capability)
    assert slow_layers(nn.Sequential(nn.Linear(4, 4)), torch.float32) == []


def test_a_machine_that_does_not_say_what_it_is_is_left_alone(processor, monkeypatch, tmp_path):
    processor(AMD)
    monkeypatch.setattr(products, "CPU_INFO", tmp_path / "none")
    assert slow_layers(nn.Sequential(nn.Linear(4, 4)), torch.float32) == []


def test_a_torch_without_mkl_or_the_operator_is_left_alone(processor, monkeypatch):
    processor(AMD)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert slow_layers(nn.Sequential(nn.Linear(4, 4)), torch.float32) == []


def test_packed_trials_are_the_same_with_either_product(workshop, monkeypatch):
    curves = []
    for slow in (True, False):
        monkeypatch.setattr(products, "_mkl_is_slow", lambda _info, slow=slow: slow)
        shop = Workshop(workshop.trainee, workshop.folder / str(slow))
        configs = {
            name: shop.config(lora_rank=rank, evaluations_per_epoch=3) for name, rank in {"a": 4, "b": 8}.items()
        }
        crowd = shop.run(configs)
        curves.append(crowd.curve("a") + crowd.curve("b"))
    assert len(curves[0]) == 6
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)
