"""The curves that a training run has logged, whoever ran it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from hpo_service.errors import DataError

FEWEST_POINTS = 3
"""Training losses or evaluations below which nothing can be said of a run."""
NOT_NUMBERS = {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}
"""How loggers write what JSON has no number for."""


@dataclass(frozen=True)
class Curve:
    """A quantity over the optimizer steps, in their order; values may be infinite or not a number."""

    steps: Sequence[float] = ()
    values: Sequence[float] = ()

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, points: Mapping[float, float]) -> Self:
        """Make a curve of values by step."""
        ordered = sorted(points)
        return cls(tuple(ordered), tuple(points[step] for step in ordered))

    @property
    def lost(self) -> list[float]:
        """Steps at which the value is no finite number."""
        return [step for step, value in zip(self.steps, self.values, strict=True) if not math.isfinite(value)]

    @property
    def finite(self) -> Curve:
        """The points whose values are finite numbers."""
        return Curve.of({s: v for s, v in zip(self.steps, self.values, strict=True) if math.isfinite(v)})


@dataclass(frozen=True)
class RunLog:
    """What a run logged.

    Attributes:
        train: training loss, in nats a token, over the steps.
        evaluations: validation loss, in nats a token, over the steps.
        norms: gradient norm before it was clipped, over the steps.
        rates: learning rate over the steps.
    """

    train: Curve = field(default_factory=Curve)
    evaluations: Curve = field(default_factory=Curve)
    norms: Curve = field(default_factory=Curve)
    rates: Curve = field(default_factory=Curve)

    @classmethod
    def read(cls, state: object, name: str) -> Self:
        """Read a `trainer_state.json` of transformers, or its `log_history` alone, as parsed JSON.

        A step that was logged twice, by a run that was resumed, counts as it was logged last.

        Args:
            state: the parsed JSON.
            name: what messages call it.

        Raises:
            DataError: it is no such file, or nothing in it can be judged.
        """
        history = state.get("log_history") if isinstance(state, Mapping) else state
        if not isinstance(history, list) or not all(isinstance(each, Mapping) for each in history):
            raise DataError(
                f"{name}: has no log_history: give the trainer_state.json that transformers' Trainer writes into each "
                "checkpoint folder"
            )
        log = cls(
            *(
                Curve.of(dict(_points(history, key, name)))
                for key in ("loss", "eval_loss", "grad_norm", "learning_rate")
            )
        )
        if max(len(log.train), len(log.evaluations)) < FEWEST_POINTS:
            raise DataError(
                f"{name}: holds {len(log.train)} training losses and {len(log.evaluations)} evaluations, too few to "
                f"judge: {FEWEST_POINTS} of either are needed; log more often (logging_steps, eval_steps)"
            )
        return log


def _points(history: Sequence[Mapping[str, Any]], key: str, name: str) -> Iterator[tuple[float, float]]:
    for place, entry in enumerate(history):
        if key not in entry or entry[key] is None:
            continue
        step, value = entry.get("step", place + 1), entry[key]
        if isinstance(value, str):
            value = NOT_NUMBERS.get(value.strip().lower(), value)
        for what, found in (("step", step), (key, value)):
            if isinstance(found, bool) or not isinstance(found, int | float):
                raise DataError(f"{name}: entry {place + 1} of log_history has {what} {found!r}, which is no number")
        yield float(step), float(value)
