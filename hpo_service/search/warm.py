"""What another study measured, as a sampler may learn from it: mapped by the parameters' names, on our scale."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo_service.domain.study.search_space import SearchSpace
from hpo_service.domain.trial.facts import VRAM_OVER
from hpo_service.search.distributions import distribution_of, holds

FEW = 3
"""Trials of our own from which on there is a scale to put another study's on."""


@dataclass(frozen=True)
class Warmth:
    """Where to learn from.

    Attributes:
        name: of the other study's search, in Optuna's tables.
        alike: whether it measured the same thing: the same model, rows and training, or objective.
    """

    name: str
    alike: bool


def known_before(
    others: Sequence[FrozenTrial], own: Sequence[FrozenTrial], space: SearchSpace, *, alike: bool
) -> list[FrozenTrial]:
    """Return another study's ended trials as trials of this space.

    A trial counts where it has every parameter of the space, inside its range; parameters that only the other study
    has are dropped. Values of something else are shifted and scaled to the median and spread (mean distance from the
    median) of our own trials; while there are fewer than three of those, they stand as they are.
    """
    ended = [t for t in others if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and t.values]
    ours = [t.values[0] for t in own if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and t.values]
    moved = _same if alike or len(ours) < FEW or not ended else _to_scale([t.values[0] for t in ended], ours)
    return [made for trial in ended if (made := _mapped(trial, space, moved)) is not None]


def _mapped(trial: FrozenTrial, space: SearchSpace, moved: Callable[[float], float]) -> FrozenTrial | None:
    domain = {name: distribution_of(parameter) for name, parameter in space.active(trial.params)}
    if not all(name in trial.params and holds(each, trial.params[name]) for name, each in domain.items()):
        return None
    return create_trial(
        state=trial.state,
        params={name: trial.params[name] for name in domain},
        distributions=domain,
        value=moved(trial.values[0]),
        intermediate_values={step: moved(value) for step, value in trial.intermediate_values.items()},
        system_attrs={name: value for name, value in trial.system_attrs.items() if _is_of_the_device(name)},
    )


def _is_of_the_device(attribute: str) -> bool:
    """Whether an attribute is the constraint that devices set; the other study's own limits are not this one's."""
    return attribute.startswith("constraints") and attribute.endswith(VRAM_OVER)


def _same(value: float) -> float:
    return value


def _to_scale(theirs: Sequence[float], ours: Sequence[float]) -> Callable[[float], float]:
    middles = statistics.median(theirs), statistics.median(ours)
    spreads = [
        statistics.mean(abs(value - middle) for value in values)
        for values, middle in zip((theirs, ours), middles, strict=True)
    ]
    factor = spreads[1] / spreads[0] if spreads[0] > 0 else 1.0
    return lambda value: middles[1] + (value - middles[0]) * factor
