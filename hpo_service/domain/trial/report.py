"""One evaluation of a running trial."""

from __future__ import annotations

from pydantic import Field

from hpo_service.domain.trial.record import Record


class Report(Record):
    """One evaluation of a running trial.

    `step` counts evaluations from 1; `fraction` is the share of the training examples seen; `value` is the loss (mean
    NLL per supervised validation token, in nats), also where a study selects on a metric, or the user's own measure.
    """

    step: int = Field(ge=0, lt=2**31)  # an SQL INTEGER holds no more
    fraction: float = Field(ge=0, le=1)
    value: float
    metrics: dict[str, float] = Field(default_factory=dict)
