"""The order in which a run takes its training rows: it follows from lengths, seed and epoch alone, in every engine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

from hpo_service.domain.study.sections.training import Order

Index = npt.NDArray[np.int64]

# Parts of equally many rows that `curriculum` takes one after the other, the shortest rows first.
BUCKETS = 10
# How `progressive` goes on: the shares of the rows that are taken, and the share of the shortest they are drawn from.
PHASES = ((0.25, 0.5), (0.5, 0.75))


def row_order(order: Order, lengths: Index, seed: int, epoch: int) -> Index:
    """Row numbers in the order of one epoch, each once.

    From the second epoch on every order is a shuffled one, as in SortaGrad (Deep Speech 2, arXiv 1512.02595, section
    3.2). `shuffled` is what the Trainer's seedable sampler draws.

    Args:
        order: its name.
        lengths: tokens of each row.
        seed: of the trial.
        epoch: passes over the rows that were made before.
    """
    generator = torch.Generator().manual_seed(seed + epoch)
    shuffled: Index = torch.randperm(len(lengths), generator=generator).numpy()
    if order == "shuffled" or epoch > 0:
        return shuffled
    # place of each row among all, from the shortest to the longest
    place = np.empty(len(lengths), dtype=np.int64)
    place[np.argsort(lengths, kind="stable")] = np.arange(len(lengths))
    return _by_bucket(shuffled, place) if order == "curriculum" else _by_limit(shuffled, place)


def _by_bucket(shuffled: Index, place: Index) -> Index:
    buckets = place[shuffled] * BUCKETS // len(place)
    return shuffled[np.argsort(buckets, kind="stable")]


def _by_limit(shuffled: Index, place: Index) -> Index:
    taken: list[Index] = []
    waiting, count = shuffled, len(shuffled)
    for until, shortest in PHASES:
        number = int(until * count) - sum(map(len, taken))
        chosen = np.flatnonzero(place[waiting] < shortest * count)[:number]
        taken.append(waiting[chosen])
        waiting = np.delete(waiting, chosen)
    return np.concatenate([*taken, waiting])


class RowOrder(Sampler[int]):
    """The same order as the Trainer asks for it."""

    def __init__(self, order: Order, lengths: Index, seed: int) -> None:
        self.order, self.lengths, self.seed, self.epoch = order, lengths, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        yield from row_order(self.order, self.lengths, self.seed, self.epoch).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Say which pass over the rows comes next."""
        self.epoch = epoch
