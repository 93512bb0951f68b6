"""Runs of a few steps (range tests, sweeps, timings) in a child: this process never loads what trains models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpo_service.domain.advise.range_test import Ramp, RangeTest, Suggestion, suggest_of_sweep
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.errors import UsageError
from hpo_service.service.studies.winner.child import answer_from

MODULE = "hpo_service.training.short_runs"
SEED = 42
TIMED_STEPS = 4

Tell = Callable[[str], object]


@dataclass(frozen=True)
class SweptRate:
    """A rate of a sweep with its losses, in nats a token; None where they were no numbers."""

    rate: float
    train_loss: float | None
    validation_loss: float | None


@dataclass(frozen=True)
class Swept:
    """A sweep and the rate that it suggests."""

    rates: list[SweptRate]
    suggestion: Suggestion


@dataclass(frozen=True)
class Ranged:
    """A range test, why it ended early if it did, and the rate that it suggests."""

    test: RangeTest
    stopped: str
    suggestion: Suggestion


@dataclass(frozen=True)
class Pace:
    """How fast a configuration is trained here.

    Attributes:
        step_seconds: of an optimizer step.
        steps: optimizer steps of a whole run.
        evaluated: what its evaluations cost, as a share of its training.
        loading_seconds: until model and rows are there.
    """

    step_seconds: float
    steps: int
    evaluated: float
    loading_seconds: float

    @property
    def seconds(self) -> float:
        """Of a whole run, without loading."""
        return self.steps * self.step_seconds * (1 + self.evaluated)


def configured(model: ModelSpec, data: DataSpec, training: TrainingSpec) -> TrialConfig:
    """The configuration of the runs of a test."""
    return TrialConfig(
        study="lr-range",
        stage="search",
        parameters={},
        seed=SEED,
        model=model,
        model_name=model.base,
        data=data,
        training=training,
    )


def configured_as(spec: StudySpec) -> TrialConfig:
    """The configuration of a study's runs on its base, as far as the study fixes it.

    Raises:
        UsageError: the study has an objective of its own.
    """
    if spec.model is None or spec.data is None:
        raise UsageError(f"study {spec.name} has an objective of its own: only the built-in trainer can be tested")
    return configured(spec.model, spec.data, spec.training)


def range_test(config: TrialConfig, ramp: Ramp, cache: Path, tell: Tell = lambda _: None) -> Ranged:
    """Let a child train while the learning rate rises.

    Args:
        config: of the run; its learning rate and schedule are the ramp's.
        ramp: the rates.
        cache: folder of what can be made again.
        tell: given each line that the child writes about what it is doing.

    Raises:
        TrialError: model, rows or settings cannot be used.
        ChildError: the child ended without an answer.
    """
    answer = _asked("range", config, cache, tell, ramp=asdict(ramp))
    test = RangeTest(ramp)
    for loss in answer["losses"]:
        test.add(loss)
    return Ranged(test, answer["stopped"], test.suggest())


def sweep(config: TrialConfig, rates: Sequence[float], steps: int, cache: Path, tell: Tell = lambda _: None) -> Swept:
    """Let a child train for a while at each rate, each time from the same start.

    Raises:
        As `range_test`.
    """
    answer = _asked("sweep", config, cache, tell, rates=sorted(rates), steps=steps)
    found = [SweptRate(**each) for each in answer["sweep"]]
    return Swept(found, suggest_of_sweep({each.rate: each.validation_loss for each in found}))


def pace(config: TrialConfig, cache: Path, tell: Tell = lambda _: None) -> Pace:
    """Let a child train a few steps, and say how long a run would take on this machine.

    Raises:
        As `range_test`.
    """
    return Pace(**_asked("pace", config, cache, tell, steps=TIMED_STEPS))


def _asked(kind: str, config: TrialConfig, cache: Path, tell: Tell, **given: Any) -> dict[str, Any]:
    request = {"kind": kind, "config": config.model_dump(mode="json", exclude_unset=True), "cache": str(cache), **given}
    return answer_from(MODULE, "the process of the short runs", request, tell)
