"""How training rows become batches: padded side by side, or short ones laid one after the other ("packed")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import PreTrainedModel, Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices

from hpo_service.domain.trial.facts import DataFacts
from hpo_service.errors import ModelError
from hpo_service.training.data.tokens import IGNORED, TokenRow, collate
from hpo_service.training.models.base import Base

# Lengths of the rows on which a model shows that it keeps packed rows apart; two to a sequence, unlike in length.
PROBE_LENGTHS, PROBE_CAPACITY = (12, 9, 11, 5), 21
# Beside the tensors that a model is called with: what each token's loss is multiplied with.
WEIGHTS = "weights"
# Largest difference of logits, root mean square over their spread, that rounding explains: in float32, and in less.
EXACT, ROUNDED = 1e-4, 0.05


@dataclass
class Batches:
    """Makes batches for training and counts their padding.

    Attributes:
        padding: an id to fill with; what is padding is told by the mask and the labels, never by the id.
        capacity: most tokens of a sequence that holds several rows; None keeps one row per sequence.
    """

    padding: int
    capacity: int | None = None
    tokens: int = 0
    positions: int = 0
    unpacked: int = 0

    def __call__(self, rows: Sequence[TokenRow]) -> dict[str, torch.Tensor]:
        """Stack the rows of one forward pass; with weights of tokens where a row weighs other than 1."""
        if self.capacity is None:
            batch = collate(rows, self.padding)
            weights = torch.tensor([row.weight for row in rows])
            batch[WEIGHTS] = weights.unsqueeze(1).repeat(1, batch["labels"].shape[1])
        else:
            batch = lay_out(rows, self.capacity, self.padding)
        if all(row.weight == 1 for row in rows):
            del batch[WEIGHTS]
        self.tokens += sum(len(row.ids) for row in rows)
        self.positions += batch["input_ids"].numel()
        self.unpacked += len(rows) * max(len(row.ids) for row in rows)
        return batch

    def facts(self) -> DataFacts:
        """The share of computed positions that were padding, and of positions that packing saved."""
        saved = None if self.capacity is None else 1 - self.positions / max(1, self.unpacked)
        return DataFacts(padding_share=1 - self.tokens / max(1, self.positions), packing_saved_share=saved)


class LengthGrouped(Sampler[int]):
    """Rows of like length next to each other, in an order that follows from seed and epoch alone.

    transformers' own sampler draws from the global generator, whose state a resumed run cannot give back in time.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = list(lengths), batch, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from get_length_grouped_indices(self.lengths, self.batch, generator=generator)

    def set_epoch(self, epoch: int) -> None:
        """Say which pass over the rows comes next."""
        self.epoch = epoch


class RowTrainer(Trainer):
    """The Trainer with what is its own of rows: their order, their weights, and what a model is told of packed ones.

    Attributes:
        batches: makes the batches, and counts what they hold.
        order: the order of the training rows; None is the Trainer's own, random by `data_seed`.
        weighted: whether rows have weights.
        weights: those of the tokens of the pass under way; None where all are 1.
    """

    batches: Batches
    order: Sampler[int] | None = None
    weighted: bool = False
    weights: torch.Tensor | None = None

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """The batches of one optimizer step, with the number of supervised tokens in it, each times its weight."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.weighted and batches:
            items = torch.stack([_weight_of(batch) for batch in batches]).sum().to(device)
        return batches, items

    def _get_train_sampler(self, *given: Any, **named: Any) -> Sampler[int] | None:
        return self.order if self.order is not None else super()._get_train_sampler(*given, **named)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *given: Any, **named: Any) -> Any:
        """Compute the loss; of packed rows the model sees positions that restart, and no mask.

        The mask is for counting tokens only: with one, or with a cache, transformers lets rows see each other.
        """
        self.weights = inputs.pop(WEIGHTS, None)
        if "position_ids" in inputs:
            inputs = {name: value for name, value in inputs.items() if name != "attention_mask"}
            inputs["use_cache"] = False
        return super().compute_loss(model, inputs, *given, **named)


def _weight_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The supervised tokens of a batch, each times its weight: a number."""
    learned = (batch["labels"] != IGNORED).float()
    return (learned * batch[WEIGHTS]).sum() if WEIGHTS in batch else learned.sum()


def lay_out(rows: Sequence[TokenRow], capacity: int, padding: int) -> dict[str, torch.Tensor]:
    """Lay rows one after the other into few sequences of at most `capacity` tokens: [sequences, longest sequence].

    Every token has its row's weight.

    Positions restart with every row. Each row's first label is `IGNORED`, so nothing is learned across a border.
    """
    sequences = assign_to_sequences([len(row.ids) for row in rows], capacity)
    longest = max(sum(len(rows[index].ids) for index in members) for members in sequences)
    shape = (len(sequences), longest)
    batch = {name: torch.zeros(shape, dtype=torch.long) for name in ("position_ids", "attention_mask")}
    batch["input_ids"] = torch.full(shape, padding, dtype=torch.long)
    batch["labels"] = torch.full(shape, IGNORED, dtype=torch.long)
    batch[WEIGHTS] = torch.ones(shape)
    for number, members in enumerate(sequences):
        begin = 0
        for index in members:
            row, place = rows[index], slice(begin, begin + len(rows[index].ids))
            batch["input_ids"][number, place] = torch.from_numpy(row.ids)
            batch["labels"][number, place] = torch.from_numpy(row.labels)
            batch[WEIGHTS][number, place] = row.weight
            batch["position_ids"][number, place] = torch.arange(len(row.ids))
            batch["attention_mask"][number, place] = 1
            begin = place.stop
    return batch


def assign_to_sequences(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Deal rows into few sequences of at most `capacity` tokens, about equally full, so that little is padding.

    Longest first, each into the emptiest sequence; one sequence more until all fit. Source: R. L. Graham, Bounds on
    multiprocessing timing anomalies, 1969 (longest processing time first).
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    for count in range(max(1, -(-sum(lengths) // capacity)), len(lengths) + 1):
        sequences: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for index in order:
            emptiest = filled.index(min(filled))
            sequences[emptiest].append(index)
            filled[emptiest] += lengths[index]
        if max(filled) <= capacity:
            return sequences
    return [[index] for index in order]


def check_rows_stay_apart(base: Base) -> None:
    """Try on a few random tokens whether this model gives packed rows what it gives them alone.

    Raises:
        ModelError: its rows would see each other, as where attention pays no heed to positions that restart.
    """
    exact = base.key.compute == torch.float32 and base.key.quantisation == "none"
    if not _difference(base.model, base.padding) <= (EXACT if exact else ROUNDED):
        raise ModelError(
            f"model {base.key.name} ({base.facts.family}) does not keep packed rows apart: one would see the other; "
            "set data.pack_rows to false (training.group_by_length saves padding too)"
        )


def _difference(model: PreTrainedModel, padding: int) -> float:
    draw = np.random.default_rng(0)
    vocabulary = model.config.get_text_config().vocab_size
    ids = [draw.integers(0, vocabulary, length, dtype=np.int32) for length in PROBE_LENGTHS]
    rows = [TokenRow(each, each) for each in ids]
    batch = lay_out(rows, PROBE_CAPACITY, padding)
    was, where = model.training, model.device
    model.eval()
    with torch.no_grad():
        alone = [
            model(input_ids=torch.from_numpy(each)[None].long().to(where), use_cache=False).logits[0] for each in ids
        ]
        told = {name: batch[name].to(where) for name in ("input_ids", "position_ids")}
        together = model(**told, use_cache=False).logits
    model.train(was)
    squares = []
    for number, members in enumerate(assign_to_sequences(PROBE_LENGTHS, PROBE_CAPACITY)):
        ends = np.cumsum([PROBE_LENGTHS[index] for index in members])
        for index, end in zip(members, ends, strict=True):
            packed = together[number, end - PROBE_LENGTHS[index] : end]
            squares.append((packed.float() - alone[index].float()).square().mean())
    spread = torch.cat(alone).float().std()
    return float(torch.stack(squares).mean().sqrt() / spread)
