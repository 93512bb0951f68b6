"""What a run cost, read from what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpo_service.domain.decide.goals.front import front
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.sections.search import LOSS
from hpo_service.domain.trial.facts import RunFacts, TimingFacts

MB = 1e6
SAVED_BYTES = 4
"""Trained weights are saved as they are trained, in float32."""


@dataclass(frozen=True)
class Cost:
    """A number that a trial costs; smaller is better.

    Attributes:
        unit: of the number.
        label: what it is called where people read it.
        sentence: what a trial does that costs so much; the amount stands in `{}`.
        of: reads it off the facts of a run; None where it is not known.
        reported: under which name the reports of a run that goes on tell what it has cost so far; empty where they do
            not.
    """

    unit: str
    label: str
    sentence: str
    of: Callable[[RunFacts], float | None]
    reported: str = ""

    def said(self, amount: float) -> str:
        """Say in words that a run cost so much."""
        return self.sentence.format(f"{amount:.4g} {self.unit}")


def adapter_mb(trained: int, *, moves_base: bool = False) -> float:
    """Return the size in MB (1e6 bytes) of so many trained weights as they are saved.

    Args:
        trained: number of weights.
        moves_base: whether the adapter started by taking its part out of the base: what is kept then has twice the rank
            (PEFT, `path_initial_model_for_weight_conversion`).
    """
    return trained * SAVED_BYTES * (2 if moves_base else 1) / MB


def _seconds(facts: RunFacts) -> float | None:
    """Seconds that the run trained; of one that was resumed all its steps at the pace of those in its last attempt."""
    spent, training = facts.timing.train, facts.training
    if spent is None or not training.steps:
        return spent
    made = training.steps - (training.resumed_at_step or 0)
    return spent * training.steps / made if made > 0 else None


def on_all_rows(facts: RunFacts, share: float) -> RunFacts:
    """Return the facts of a run on a share of the training rows as they would be on all: seconds grow with rows."""
    spent = facts.timing.train
    return facts if share == 1.0 or spent is None else facts | RunFacts(timing=TimingFacts(train=spent / share))


COSTS: Mapping[str, Cost] = {
    "seconds": Cost("s", "training time", "training takes {}", _seconds, "train_seconds"),
    "memory_gb": Cost(
        "GB", "peak memory", "it took {} of memory at its peak", lambda facts: facts.memory.peak_gb, "memory_gb"
    ),
    "adapter_mb": Cost("MB", "adapter", "its adapter takes {}", lambda facts: facts.training.adapter_mb),
}
"""What trials cost, by the name that limits and goals have in the study file."""


def goal_values(goals: Sequence[str], value: float | None, facts: RunFacts) -> list[float] | None:
    """Return what a trial reached in each goal, the loss among them; None where any of it is not known."""
    found = [value if goal == LOSS else COSTS[goal].of(facts) for goal in goals]
    known = [float(each) for each in found if each is not None and math.isfinite(each)]
    return known if len(known) == len(goals) else None


def to_the_end(facts: RunFacts) -> RunFacts:
    """Return the facts of a run that was stopped as if it had gone on at the same pace for all planned steps."""
    steps, planned, spent = facts.training.steps, facts.training.steps_planned, COSTS["seconds"].of(facts)
    if not steps or not planned or spent is None:
        return facts
    whole = {"seconds_train": spent * planned / steps, "steps": planned, "resumed_at_step": 0}
    return RunFacts.of({**facts.flat(), **whole})


def signed(values: Sequence[float], direction: Direction) -> list[float]:
    """Return what a trial reached in each goal, the loss first, so that smaller is better in each."""
    return [direction.badness(values[0]), *values[1:]]


def front_ids(
    goals: Sequence[str], direction: Direction, trials: Iterable[tuple[int, float | None, RunFacts]]
) -> list[int]:
    """Return the ids of the trials on the front, of complete ones that are given by id, value and facts.

    Who broke a limit, or of whom a goal is not known, is not on it and beats nobody.
    """
    kept = [(i, goal_values(goals, value, facts)) for i, value, facts in trials if not facts.constraints.violated]
    valued = [(i, signed(values, direction)) for i, values in kept if values is not None]
    return [valued[place][0] for place in front([values for _, values in valued])]
