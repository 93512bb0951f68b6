"""The losses of a trained model, row by row, or how well it answered."""

from __future__ import annotations

from typing import Literal

from hpo_service.domain.trial.record import Record

Split = Literal["validation", "test", "test_answers"]
"""Rows that were scored: losses of validation and test rows, and answers to the prompts of test rows."""


class Scores(Record):
    """Per-example sums of token NLL (nats) and supervised token counts, aligned, in the frozen order of the split.

    Of answers it is what the metric that the study selects on gives each row, and 1 as every row's weight.
    """

    nll: list[float]
    tokens: list[int]

    @classmethod
    def of_answers(cls, rows: list[float]) -> Scores:
        """Scores of answers, all of which weigh alike."""
        return cls(nll=rows, tokens=[1] * len(rows))

    def first(self, rows: int | None) -> Scores:
        """Return the scores of the first rows; None stands for all."""
        return self if rows is None else Scores(nll=self.nll[:rows], tokens=self.tokens[:rows])

    @property
    def mean(self) -> float:
        """Token-weighted mean NLL: sum of NLL over the number of supervised tokens."""
        return sum(self.nll) / max(1, sum(self.tokens))
