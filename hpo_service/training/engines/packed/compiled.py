"""The decoder's layers, with the adapters in them, and the loss as kernels that torch compiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

Function = Callable[..., Any]


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """The layers that a model repeats, which transformers never splits over devices; none where it does not say."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def compiled(function: Function) -> Function:
    """Have torch compile a function, for tensors of any size, when it is first called."""
    made: Function = torch.compile(function, dynamic=True)
    return made


class CompiledLayers:
    """Layers that run compiled while they are `used`, and are as they were after that.

    One compilation serves all of them: torch tells them apart by what they are given, and weights, stacked adapters and
    a pass are given. It keeps what it compiled, so that the next pack need not wait for it.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._forwards = [(layer, compiled(layer.forward)) for layer in layers]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have the layers run compiled."""
        for layer, forward in self._forwards:
            layer.__dict__["forward"] = forward
        try:
            yield
        finally:
            for layer, _ in self._forwards:
                del layer.__dict__["forward"]
