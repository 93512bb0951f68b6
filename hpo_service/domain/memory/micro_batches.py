"""How an effective batch is cut into micro-batches that fit a device."""

from __future__ import annotations

# Rows per forward pass where the study file does not say.
DEFAULT_MICRO_BATCH = 8


def micro_batch(effective_batch: int, limit: int | None = None) -> int:
    """The largest divisor of the effective batch up to `limit` (8 when left out): nothing is rounded away."""
    top = min(limit or DEFAULT_MICRO_BATCH, effective_batch)
    return next(rows for rows in range(top, 0, -1) if effective_batch % rows == 0)


def smaller_micro_batches(effective_batch: int, micro: int) -> list[int]:
    """This micro-batch and those that halving leads to, down to 1; each divides the effective batch."""
    sizes = [micro]
    while sizes[-1] > 1:
        sizes.append(micro_batch(effective_batch, sizes[-1] // 2))
    return sizes
