"""Rows as the model sees them: token ids, and which of them are learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from hpo_service.domain.study.sections.data import Learned
from hpo_service.training.data.encoding import Encoder
from hpo_service.training.data.formats import NOT_LEARNED
from hpo_service.training.data.reading.example import Example
from hpo_service.training.data.tokenising.spool import Spool
from hpo_service.training.data.turns import TurnCounts

# The label that cross entropy leaves out.
IGNORED = NOT_LEARNED
BATCH = 1000

Ids = npt.NDArray[np.int32]
Bounds = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TokenRow:
    """Token ids of a row and its labels, equally long: the id where the token is learned, else `IGNORED`.

    The first label is always ignored, since nothing predicts the first token. `weight` is what its loss is multiplied
    with in training; nothing that is scored looks at it.
    """

    ids: Ids
    labels: Ids
    weight: float = 1.0

    @property
    def supervised(self) -> int:
        """Number of learned tokens."""
        return int((self.labels != IGNORED).sum())


# What is counted of rows, and added up over batches of them.
COUNTED = ("truncated", "unsupervised", "padding", "unended", "plain")
# The names of the arrays that hold rows.
ARRAYS = ("ids", "labels", "bounds")


class TokenRows(Sequence[TokenRow]):
    """Rows in two flat arrays, which may lie on disk: row i is `bounds[i]` to `bounds[i + 1]`, made when asked for.

    Left out, `weights` are 1 each.
    """

    def __init__(self, ids: Ids, labels: Ids, bounds: Bounds, weights: Weights | None = None) -> None:
        self.ids, self.labels, self.bounds = ids, labels, bounds
        self.weights = np.ones(len(bounds) - 1, dtype=np.float32) if weights is None else weights

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> TokenRows:
        """Lay rows into arrays."""
        bounds = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(np.asarray([len(row.ids) for row in rows], dtype=np.int64), out=bounds[1:])
        empty = np.zeros(0, dtype=np.int32)
        ids = np.concatenate([empty, *(row.ids for row in rows)])
        weights = np.asarray([row.weight for row in rows], dtype=np.float32)
        return cls(ids, np.concatenate([empty, *(row.labels for row in rows)]), bounds, weights)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, index: int) -> TokenRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenRow]: ...
    def __getitem__(self, index: int | slice) -> TokenRow | list[TokenRow]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        part = slice(self.bounds[place], self.bounds[place + 1])
        return TokenRow(self.ids[part], self.labels[part], float(self.weights[place]))

    def first(self, count: int) -> TokenRows:
        """Return the first rows, on the same memory; all rows stay the object that they are."""
        if count >= len(self):
            return self
        end = self.bounds[count]
        return TokenRows(self.ids[:end], self.labels[:end], self.bounds[: count + 1], self.weights[:count])

    @property
    def lengths(self) -> Bounds:
        """Tokens of each row."""
        return np.diff(self.bounds)

    @property
    def weighted(self) -> bool:
        """Whether a row weighs other than 1."""
        return bool((self.weights != 1).any())


@dataclass(frozen=True)
class Tokenised:
    """Rows of one part with what cutting them to length cost; `lengths` are those of all its rows before the cut.

    `padding`, `unended` and `plain` are counted as `Encoder` does.
    """

    rows: TokenRows
    lengths: Bounds
    truncated: int
    unsupervised: int
    padding: int = 0
    unended: int = 0
    turns: TurnCounts = field(default_factory=TurnCounts)
    plain: int = 0


def tokenise(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    learn: Learned = "completions",
    touch: Callable[[float], None] = lambda _: None,
    chat_template: str | None = None,
) -> Tokenised:
    """Turn examples into token rows of at most `max_length`; rows left without a learned token are dropped.

    A `chat_template` is used in place of the tokenizer's own.

    Raises:
        DataError: the tokenizer lacks a chat template, a conversation does not fit it, or it does not know an id.
    """
    encoder = Encoder(tokenizer, chat_template)
    rows: list[TokenRow] = []
    lengths: list[int] = []
    for begin in range(0, len(examples), BATCH):
        batch = examples[begin : begin + BATCH]
        for example, (ids, learned) in zip(batch, encoder.encode(batch), strict=True):
            lengths.append(len(ids))
            every = [True] * len(ids) if learn == "all" else learned
            rows.append(_row(ids[:max_length], every[:max_length], example.weight))
        touch(len(rows) / len(examples))
    kept = [row for row in rows if row.supervised]
    uncut = np.asarray(lengths, dtype=np.int64)
    return Tokenised(
        TokenRows.of(kept),
        uncut,
        truncated=int((uncut > max_length).sum()),
        unsupervised=len(rows) - len(kept),
        padding=encoder.padding,
        unended=encoder.unended,
        turns=encoder.turns,
        plain=encoder.plain,
    )


def gathered(
    batches: Iterable[Tokenised], folder: Path | None = None, touch: Callable[[int], None] = lambda _: None
) -> Tokenised:
    """Rows that were tokenised in batches, as one part.

    Args:
        batches: in order.
        folder: where ids and labels are laid down; None is memory.
        touch: told how many rows there are so far.

    Raises:
        OSError: the folder cannot be written.
    """
    ids, labels = Spool(folder), Spool(folder)
    kept, uncut, turns = [np.zeros(1, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], TurnCounts()
    weights = [np.zeros(0, dtype=np.float32)]
    counted: Counter[str] = Counter()
    for batch in batches:
        ids.add(np.ascontiguousarray(batch.rows.ids).data)
        labels.add(np.ascontiguousarray(batch.rows.labels).data)
        kept.append(batch.rows.lengths)
        weights.append(batch.rows.weights)
        uncut.append(batch.lengths)
        turns.add(batch.turns)
        counted.update({name: getattr(batch, name) for name in COUNTED})
        counted["rows"] += len(batch.lengths)
        touch(counted["rows"])
    bounds = np.cumsum(np.concatenate(kept))
    rows = TokenRows(ids.array(np.int32), labels.array(np.int32), bounds, np.concatenate(weights))
    return Tokenised(rows, np.concatenate(uncut), turns=turns, **{name: counted[name] for name in COUNTED})


def collate(rows: Sequence[TokenRow], padding: int) -> dict[str, torch.Tensor]:
    """Stack rows to [rows, longest], padded on the right; what is padding is told by the mask, never by the id."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), padding, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.from_numpy(row.ids)
        labels[index, : len(row.ids)] = torch.from_numpy(row.labels)
        mask[index, : len(row.ids)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _row(ids: Sequence[int], learned: Sequence[bool], weight: float) -> TokenRow:
    array = np.asarray(ids, dtype=np.int32)
    labels = np.where(np.asarray(learned, dtype=bool), array, np.int32(IGNORED))
    labels[:1] = IGNORED
    return TokenRow(array, labels, weight)
