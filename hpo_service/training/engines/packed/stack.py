"""The stacked adapters of a pack: for every target module A [S, R, d_in] and B [S, d_out, R] in float32."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from hpo_service.training.engines.packed.dropout import keep_mask, module_salt
from hpo_service.training.engines.packed.eligible import NotPackedError
from hpo_service.training.engines.packed.passes import Pass

Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Per module its A [r, d_in] and B [d_out, r], at a trial's own rank."""


@dataclass(frozen=True)
class Adapter:
    """One trial's place in a stack: which modules at which rank, how its output is scaled, and its dropout."""

    rank: int
    scaling: Mapping[str, float]
    dropout: float = 0.0


@dataclass(frozen=True)
class Target:
    """A module that gets adapters, and its widths."""

    module: nn.Module
    d_in: int
    d_out: int


# Tokens per width of the widest module from which on adding an adapter to the weights costs at most an eighth of its
# products: d_in d_out R against n R (d_in + d_out).
MERGE_TOKENS = 4
# Largest copy of the adapted weights that is worth it, in elements (256 MiB).
MERGE_ELEMENTS = 2**26


@dataclass(frozen=True)
class _Part:
    name: str
    a: torch.Tensor
    b: torch.Tensor
    scale: torch.Tensor
    salt: torch.Tensor


@dataclass(eq=False)
class Stack:
    """Room for `slots` adapters of up to `rank` on the given targets, with gradients and AdamW's two moments.

    All weights of a slot are one row of a flat buffer [slots, n], and so are their gradients and moments: clipping and
    the optimizer see one vector per trial, the modules see views of it. A slot's unused ranks and untargeted modules
    are zeros in A and B alike, which neither gradient nor AdamW nor decay can move.
    """

    targets: Mapping[str, Target]
    slots: int
    rank: int
    device: torch.device
    weight: torch.Tensor = field(init=False)
    grad: torch.Tensor = field(init=False)
    first: torch.Tensor = field(init=False)
    second: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Allocate the buffers, all zero."""
        size = sum(self.rank * (target.d_in + target.d_out) for target in self.targets.values())
        self.weight, self.grad, self.first, self.second = (
            torch.zeros((self.slots, size), device=self.device) for _ in range(4)
        )
        self._parts = {
            name: _Part(
                a=self._leaf(begin, (self.rank, target.d_in)),
                b=self._leaf(begin + self.rank * target.d_in, (target.d_out, self.rank)),
                name=name,
                scale=torch.zeros(self.slots, device=self.device),
                salt=module_salt(name, self.device),
            )
            for name, target, begin in self._layout()
        }
        # a gradient that is a view is what is wanted here
        warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")
        self._buffers = {"weight": self.weight, "first": self.first, "second": self.second, "grad": self.grad}
        self._now: Pass | None = None
        self._handles = [
            target.module.register_forward_hook(self._hook(self._parts[name])) for name, target in self.targets.items()
        ]

    def _layout(self) -> Iterator[tuple[str, Target, int]]:
        begin = 0
        for name, target in self.targets.items():
            yield name, target, begin
            begin += self.rank * (target.d_in + target.d_out)

    def _leaf(self, begin: int, shape: tuple[int, int]) -> torch.Tensor:
        """A view of the weights that autograd takes for a leaf; its gradient is a view of the gradients."""
        end = begin + shape[0] * shape[1]
        leaf = self.weight[:, begin:end].view(self.slots, *shape).detach().requires_grad_()
        leaf.grad = self.grad[:, begin:end].view(self.slots, *shape)
        return leaf

    def put(self, slot: int, adapter: Adapter, state: Mapping[str, Factors]) -> None:
        """Fill a slot, which was scrubbed; `state` names buffers, those left out stay zero."""
        for buffer_name, factors in state.items():
            buffer = self._buffers[buffer_name]
            for name, (a, b) in factors.items():
                into_a, into_b = self._views(buffer[slot], name)
                into_a[: adapter.rank].copy_(a)
                into_b[:, : adapter.rank].copy_(b)
        for name, scaling in adapter.scaling.items():
            self._parts[name].scale[slot] = scaling

    def scrub(self, slot: int) -> None:
        """Empty a slot: weights, gradients, moments and scales are zero."""
        for buffer in self._buffers.values():
            buffer[slot].zero_()
        for part in self._parts.values():
            part.scale[slot] = 0.0

    def take(self, slot: int, adapter: Adapter, buffer: str = "weight") -> Factors:
        """Copies of what a slot has in a buffer, at its own rank."""
        taken = {}
        for name in adapter.scaling:
            a, b = self._views(self._buffers[buffer][slot], name)
            taken[name] = (a[: adapter.rank].clone(), b[:, : adapter.rank].clone())
        return taken

    def holds(self, adapter: Adapter) -> bool:
        """Whether an adapter fits without growing."""
        return adapter.rank <= self.rank and adapter.scaling.keys() <= self.targets.keys()

    def worth_merging(self, tokens: int) -> bool:
        """Whether to add an adapter to the weights for so many tokens: on a CPU in float32, if that is cheap."""
        plain = all(
            type(target.module) is nn.Linear
            and target.module.weight.dtype is torch.float32
            and target.module.weight.device.type == "cpu"
            for target in self.targets.values()
        )
        widest = max(max(target.d_in, target.d_out) for target in self.targets.values())
        elements = sum(target.d_in * target.d_out for target in self.targets.values())
        return plain and tokens >= MERGE_TOKENS * widest and elements <= MERGE_ELEMENTS

    @contextmanager
    def merged(self, slot: int) -> Iterator[None]:
        """Have the base multiply with W + s B A of one slot; its own weights come back as they were."""
        kept = []
        try:
            for name, target in self.targets.items():
                part, parameters = self._parts[name], target.module._parameters
                weight = parameters["weight"]
                assert weight is not None
                kept.append((parameters, weight))
                sum_ = torch.addmm(weight.detach(), part.b.detach()[slot] * part.scale[slot], part.a.detach()[slot])
                parameters["weight"] = nn.Parameter(sum_, requires_grad=False)
            yield
        finally:
            for parameters, weight in kept:
                parameters["weight"] = weight

    def close(self) -> None:
        """Take the hooks off the base, which is then as it was."""
        for handle in self._handles:
            handle.remove()

    def enter(self, now: Pass | None) -> None:
        """Say which pass goes through the base next."""
        self._now = now

    def _views(self, row: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        target, begin = next((target, begin) for each, target, begin in self._layout() if each == name)
        middle, end = begin + self.rank * target.d_in, begin + self.rank * (target.d_in + target.d_out)
        return row[begin:middle].view(self.rank, target.d_in), row[middle:end].view(target.d_out, self.rank)

    def _hook(self, part: _Part) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
        def add(_module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            return output if self._now is None else _updated(output, part, given[0], self._now)

        return add


def _updated(output: torch.Tensor, part: _Part, x: torch.Tensor, now: Pass) -> torch.Tensor:
    """The module's output + s_k B_k A_k x for every row's own slot k; x is [rows, length, d_in].

    Raises:
        NotPackedError: the model gives its module something else, so that rows cannot be told apart.
    """
    if x.shape[:-1] != now.ids.shape:
        raise NotPackedError(
            f"{part.name} is given {tuple(x.shape)} for rows {tuple(now.ids.shape)}: its rows are mixed"
        )
    rows, length, _ = x.shape
    if not torch.is_autocast_enabled(x.device.type):
        x = x.to(part.a.dtype)
    if now.noise is not None:
        mask = keep_mask(now.noise.keys, part.salt, length, x.shape[2], now.noise.thresholds)
        x = torch.where(mask, x * now.noise.keep.to(x.dtype), 0.0)
    a, b, scale = (
        each if now.slots is None else each.index_select(0, now.slots) for each in (part.a, part.b, part.scale)
    )
    groups = len(scale)
    inner = torch.bmm(x.reshape(groups, rows // groups * length, -1), a.transpose(1, 2))
    inner = (inner * scale.view(-1, 1, 1).to(inner.dtype)).to(output.dtype)
    apart, outer = output.reshape(groups, rows // groups * length, -1), b.transpose(1, 2).to(output.dtype)
    # nobody else holds the output yet; with gradients, a product that adds costs one pass over memory less than a sum
    sum_ = torch.baddbmm(apart, inner, outer) if torch.is_grad_enabled() else apart.baddbmm_(inner, outer)
    return sum_.view(rows, length, -1)
