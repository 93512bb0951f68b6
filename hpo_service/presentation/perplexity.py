"""Perplexity, as people quote it beside a loss."""

from __future__ import annotations

import math


def perplexity(nll: float | None) -> float | None:
    """Return exp of a mean NLL per token in nats: infinite where no float holds it, None where there is no NLL."""
    if nll is None or math.isnan(nll):
        return None
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf
