"""Training rows cut into shorter ones, for models from scratch whose training length is searched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpo_service.training.data.tokens import IGNORED, TokenRow


def pieces(rows: Sequence[TokenRow], length: int) -> list[TokenRow]:
    """Cut rows into pieces of at most `length` tokens (0: leave them whole); pieces that teach nothing are left out.

    A piece's first token is not learned, since nothing predicts it: one label is lost at each cut.
    """
    if not length:
        return list(rows)
    return [piece for row in rows for piece in _cut(row, length) if piece.supervised]


def _cut(row: TokenRow, length: int) -> Iterator[TokenRow]:
    for begin in range(0, len(row.ids), length):
        labels = row.labels[begin : begin + length].copy()
        labels[:1] = IGNORED
        yield TokenRow(row.ids[begin : begin + length], labels, row.weight)
