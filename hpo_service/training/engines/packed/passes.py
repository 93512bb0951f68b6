"""What goes through the base at once: rows of several trials, neighbours in length, each row with its slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hpo_service.training.data.tokens import IGNORED, TokenRow
from hpo_service.training.engines.packed.dropout import Keys, threshold

Index = npt.NDArray[np.int64]


class RowTable:
    """Token rows in flat arrays, so that a batch is cut out without touching row after row."""

    def __init__(self, rows: Sequence[TokenRow]) -> None:
        self.lengths: Index = np.asarray([len(row.ids) for row in rows], dtype=np.int64)
        self.supervised: Index = np.asarray([row.supervised for row in rows], dtype=np.int64)
        self.weights = np.asarray([row.weight for row in rows], dtype=np.float64)
        self._begins = np.cumsum(self.lengths) - self.lengths
        self._ids = np.concatenate([row.ids for row in rows]).astype(np.int64)
        self._labels = np.concatenate([row.labels for row in rows]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def cut(self, rows: Index, padding: int) -> tuple[Index, Index]:
        """Ids and labels of these rows, each [rows, longest], padded on the right."""
        lengths = self.lengths[rows]
        columns = np.arange(lengths.max())
        inside = columns < lengths[:, None]
        index = np.where(inside, self._begins[rows][:, None] + columns, 0)
        return np.where(inside, self._ids[index], padding), np.where(inside, self._labels[index], IGNORED)


@dataclass(frozen=True)
class Share:
    """What one slot brings into a tick.

    `rows` are row numbers of the table; `owners` is what each row's NLL is counted for; `weight` is what its tokens'
    NLLs are multiplied with in the loss, beside their row's weight; `keys` are the rows' dropout keys, `dropout` the
    slot's share.
    """

    slot: int
    rows: Index
    owners: Index
    weight: float = 0.0
    keys: Keys | None = None
    dropout: float = 0.0


@dataclass(frozen=True)
class Noise:
    """Dropout of a pass: per row its key (int32), threshold (int16) and 1 / the share kept, shaped to multiply."""

    keys: torch.Tensor
    thresholds: torch.Tensor
    keep: torch.Tensor


@dataclass(frozen=True)
class Pass:
    """One forward: rows [r, L] in groups of equally many, each group of one slot.

    Rows are padded on the right, where no position that is learned can see: a causal model needs no mask for that.
    `slots` holds the slot of each group; None says that group k is slot k, of all there are. `positions` are the flat
    places row * L + column whose next token is learned; `targets`, `weights` and `owners` are that token, what its NLL
    is multiplied with in the loss, and what it is counted for.
    """

    ids: torch.Tensor
    slots: torch.Tensor | None
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    owners: torch.Tensor
    noise: Noise | None = None


@dataclass(frozen=True)
class Cutter:
    """Cuts what slots bring into passes of about `tokens` tokens, padding included, on `device`."""

    table: RowTable
    padding: int
    capacity: int
    tokens: int
    device: torch.device

    def cut(self, shares: Sequence[Share]) -> Iterator[Pass]:
        """Deal every share's rows out over the passes by length: one holds the short rows of all, another the long.

        Passes with few rows of unlike length are mostly padding, and a pass whose groups are alike in size needs no
        more than one batched product per module. A row that is longer than a pass may be goes through by itself.
        """
        parts: list[tuple[Share, Index]] = []
        for step in self._steps(shares):
            joined = _joined(parts, step)
            if parts and self._size(joined) > self.tokens:
                yield self._pass(parts)
                joined = step
            parts = joined
            while len(parts) > 1 and self._size(parts) > self.tokens:
                # one row of every share is too much already
                fit = max((n for n in range(1, len(parts)) if self._size(parts[:n]) <= self.tokens), default=1)
                yield self._pass(parts[:fit])
                parts = parts[fit:]
        yield self._pass(parts)

    def _steps(self, shares: Sequence[Share]) -> Iterator[list[tuple[Share, Index]]]:
        """From the shortest rows to the longest, a row of the share that has most, and of the others in proportion."""
        orders = [np.argsort(self.table.lengths[share.rows], kind="stable") for share in shares]
        number = max(len(order) for order in orders)
        edges = [np.arange(number + 1) * len(order) // number for order in orders]
        for k in range(number):
            dealt = [(share, order[at[k] : at[k + 1]]) for share, order, at in zip(shares, orders, edges, strict=True)]
            yield [(share, chunk) for share, chunk in dealt if len(chunk)]

    def _size(self, parts: Sequence[tuple[Share, Index]]) -> int:
        """Tokens of a pass, padding included."""
        longest = max(int(self.table.lengths[share.rows[chunk[-1]]]) for share, chunk in parts)
        return longest * sum(len(chunk) for _, chunk in parts)

    def _pass(self, parts: Sequence[tuple[Share, Index]]) -> Pass:
        size = int(np.gcd.reduce([len(chunk) for _, chunk in parts]))
        slots = np.repeat([share.slot for share, _ in parts], [len(chunk) // size for _, chunk in parts])
        counts = [len(chunk) for _, chunk in parts]
        ids, labels = self.table.cut(np.concatenate([share.rows[chunk] for share, chunk in parts]), self.padding)
        row, column = np.nonzero(labels[:, 1:] != IGNORED)
        owners = np.concatenate([share.owners[chunk] for share, chunk in parts])
        weights = np.concatenate([share.weight * self.table.weights[share.rows[chunk]] for share, chunk in parts])
        return Pass(
            ids=self._on_device(ids),
            slots=None if np.array_equal(slots, np.arange(self.capacity)) else self._on_device(slots),
            positions=self._on_device(row * ids.shape[1] + column),
            targets=self._on_device(labels[row, column + 1]),
            weights=self._on_device(weights[row].astype(np.float32)),
            owners=self._on_device(owners[row]),
            noise=self._noise(parts, counts),
        )

    def _noise(self, parts: Sequence[tuple[Share, Index]], counts: Sequence[int]) -> Noise | None:
        if not any(share.dropout and share.keys is not None for share, _ in parts):
            return None
        keys = [np.zeros(len(c), np.uint32) if share.keys is None else share.keys[c] for share, c in parts]
        thresholds = np.repeat(np.asarray([threshold(share.dropout) for share, _ in parts], dtype=np.int16), counts)
        keep = np.repeat(np.asarray([1 / (1 - share.dropout) for share, _ in parts], dtype=np.float32), counts)
        return Noise(
            keys=self._on_device(np.concatenate(keys).view(np.int32)),
            thresholds=self._on_device(thresholds),
            keep=self._on_device(keep).view(-1, 1, 1),
        )

    def _on_device(self, array: npt.NDArray[Any]) -> torch.Tensor:
        return onto(array, self.device)


def onto(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array on a device; a GPU fetches it from pinned memory by itself, while the host goes on."""
    there = torch.from_numpy(array)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there


def _joined(parts: Sequence[tuple[Share, Index]], more: Sequence[tuple[Share, Index]]) -> list[tuple[Share, Index]]:
    """Both, each share's rows together, in the order of slots."""
    chunks = {share.slot: (share, chunk) for share, chunk in parts}
    for share, chunk in more:
        before = chunks.get(share.slot)
        chunks[share.slot] = (share, chunk if before is None else np.concatenate([before[1], chunk]))
    return [chunks[slot] for slot in sorted(chunks)]
