"""Products with the base's frozen weights on a CPU, through oneDNN where torch's default library is slow.

torch gives float32 products to MKL, which leaves AVX-512 unused on processors that are not Intel's: on two cores of an
AMD EPYC it made 180 GFLOP/s where oneDNN, which torch carries as well, made 410 (`docs/packing.md`). Weights are used
where they lie; nothing is copied or kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

CPU_INFO = Path("/proc/cpuinfo")


def slow_layers(model: nn.Module, compute: torch.dtype) -> list[nn.Linear]:
    """The linear layers of a frozen model whose products `fast_products` would speed up: none on most machines."""
    if compute is not torch.float32 or not _mkl_is_slow(CPU_INFO):
        return []
    return [
        module
        for module in model.modules()
        # a subclass multiplies in a way of its own
        if type(module) is nn.Linear and module.weight.device.type == "cpu" and module.weight.dtype is torch.float32
    ]


@contextmanager
def fast_products(layers: Sequence[nn.Linear]) -> Iterator[None]:
    """Let these layers multiply through oneDNN; their weights get no gradient meanwhile."""
    for layer in layers:
        layer.forward = partial(_Product.apply, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


class _Product(torch.autograd.Function):
    """y = x Wᵀ + b, and ∂L/∂x = ∂L/∂y W."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        ctx.layer = layer
        return _times(x, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, _times(gradients[0].contiguous(), ctx.layer.weight.t(), None)


def _times(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x Wᵀ + b, by the operator that torch's compiler calls for it: eager torch has no public name for that."""  # noqa: D403
    if not x.numel():
        return nn.functional.linear(x, weight, bias)
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _mkl_is_slow(cpu_info: Path) -> bool:
    """Whether MKL passes over this processor's AVX-512: told by its maker, so that a machine never changes its mind."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        return "AuthenticAMD" in cpu_info.read_text(errors="replace")
    except OSError:
        return False
