"""The losses of a trained model, row by row."""

from __future__ import annotations

from hpo_service.domain.trial.record import Record


class Scores(Record):
    """Per-example sums of token NLL (nats) and supervised token counts, aligned, in the frozen order of the split."""

    nll: list[float]
    tokens: list[int]

    def first(self, rows: int | None) -> Scores:
        """Return the scores of the first rows; None stands for all."""
        return self if rows is None else Scores(nll=self.nll[:rows], tokens=self.tokens[:rows])

    @property
    def mean(self) -> float:
        """Token-weighted mean NLL: sum of NLL over the number of supervised tokens."""
        return sum(self.nll) / max(1, sum(self.tokens))
