"""What a verify stage found: which configuration the target likes best, and how far its learning rate moved."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo_service.domain.decide.selection import Measured, choose_top
from hpo_service.domain.decide.transfer.calibration import Calibration
from hpo_service.domain.decide.transfer.scaling import rank_exponent
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.planned import CARRIED, CONTROL, EXTENDED

FEWEST_RANKED = 3
"""Configurations that it takes to say whether both models rank them alike."""


@dataclass(frozen=True)
class Transferred:
    """What carrying over showed.

    Attributes:
        best: the best trial on the target.
        origin: the trial of the small model that it came from.
        factor: its learning rate over the origin's.
        correlation: Spearman's between the values of configurations on the small model and their best on the target,
            1 where both rank them alike; None for fewer than three.
        ranked: how many configurations that is of.
        control: the default's value on the target, None where it was not measured.
    """

    best: Measured
    origin: Measured
    factor: float
    correlation: float | None
    ranked: int
    control: float | None


def transferred(spec: StudySpec, small: Sequence[Measured], large: Sequence[Measured]) -> Transferred | None:
    """Say what a verify stage found; None where no configuration ran to its end.

    Args:
        spec: of the study.
        small: trials of the stage that configurations came from.
        large: trials of the verify stage.
    """
    direction = spec.search.direction
    found = choose_top((m for m in large if m.role in (CARRIED, EXTENDED)), 1, direction).chosen
    origins = {m.trial_id: m for m in small}
    if not found or found[0].origin_id not in origins:
        return None
    best = found[0]
    pairs = []
    for origin in origins.values():
        mine = choose_top((m for m in large if m.origin_id == origin.trial_id), 1, direction).chosen
        pairs += [(direction.badness(origin.value), direction.badness(mine[0].value))] if mine else []
    control = choose_top((m for m in large if m.role == CONTROL), 1, direction).chosen
    origin = origins[best.origin_id or 0]
    return Transferred(
        best=best,
        origin=origin,
        factor=float(best.parameters["learning_rate"]) / _rate(spec, origin),
        correlation=_spearman(pairs),
        ranked=len(pairs),
        control=control[0].value if control else None,
    )


def calibration(spec: StudySpec, facts: Mapping[str, ModelFacts], found: Transferred) -> Calibration | None:
    """Return what later studies of the family learn; None where the models are not two of one family.

    What the rank did to the learning rate is taken out: it is known for its own.
    """
    models = [facts.get(name or "") for name in (spec.model.base, spec.model.target)] if spec.model else []
    small, large = models if len(models) == 2 else (None, None)
    if small is None or large is None or small.family != large.family:
        return None
    training = spec.training.hyperparameters().with_values(found.origin.parameters)
    by_rank = 1.0
    if METHODS[training.method].low_rank:
        grown = float(found.best.parameters.get("lora_rank", training.lora_rank)) / training.lora_rank
        by_rank = grown ** rank_exponent(training)
    return Calibration(spec.name, large.family, small.hidden_size, large.hidden_size, found.factor / by_rank)


def _rate(spec: StudySpec, origin: Measured) -> float:
    return spec.training.hyperparameters().with_values(origin.parameters).learning_rate


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Correlate ranks (Spearman, 1904); None for fewer than three pairs, or where all of one side are equal."""
    if len(pairs) < FEWEST_RANKED:
        return None
    ranks = [_ranks(side) for side in zip(*pairs, strict=True)]
    if any(len(set(side)) == 1 for side in ranks):
        return None
    return statistics.correlation(*ranks)


def _ranks(values: Sequence[float]) -> list[float]:
    """Rank values from 1; equal ones share the mean of their ranks."""
    return [1 + sum(v < value for v in values) + (sum(v == value for v in values) - 1) / 2 for value in values]
