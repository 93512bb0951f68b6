"""How many validation rows a run is evaluated on before its last evaluation, which is of all rows."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.study.sections.training import TrainingSpec

TRAINING_SHARE = 0.1
"""What all evaluations of a run may cost, in terms of its training."""
PASSES = 2
"""Forward passes that training on a row costs: one, and one back to the adapters, for the base is frozen. Methods that
train all weights pay three, and are counted alike, so that all trials are evaluated on the same rows."""
LEAST = 256
"""Rows that tell configurations apart, as docs/search.md argues from paired differences: all are asked the same."""


@dataclass(frozen=True)
class Watched:
    """So many validation rows, the first of all, and why so many."""

    rows: int
    reason: str


def watched_rows(spec: TrainingSpec, train: int, validation: int) -> Watched:
    """Decide on how many rows the evaluations before the last are made.

    Args:
        spec: how the run is trained and watched.
        train: rows that it is trained on.
        validation: rows of the validation part.
    """
    wanted = spec.evaluation_rows
    if wanted == "all":
        return Watched(validation, f"all {validation}: training.evaluation_rows asks for them")
    if wanted != "auto":
        rows = min(wanted, validation)
        return Watched(rows, f"{rows} of {validation}: training.evaluation_rows asks for {wanted}")
    before_last = spec.epochs * spec.evaluations_per_epoch - 1
    if validation <= LEAST or before_last == 0:
        why = f"up to {LEAST} rows are never cut" if before_last else "there is one evaluation"
        return Watched(validation, f"all {validation}: {why}")
    # counted in rows through the base, of which the last evaluation takes its own first
    allowed = TRAINING_SHARE * PASSES * spec.epochs * train - validation
    affordable = int(allowed // before_last)
    if affordable >= validation:
        return Watched(validation, f"all {validation}: together they cost less than a tenth of the training")
    if affordable >= LEAST:
        return Watched(
            affordable, f"{affordable} of {validation}: so that all evaluations cost a tenth of the training"
        )
    return Watched(LEAST, f"{LEAST} of {validation}: fewer would not tell configurations apart")
