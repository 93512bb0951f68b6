"""What a stage consists of: the trials that are planned from the results of the stage before, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo_service.domain.decide.selection import Choice, Measured
from hpo_service.domain.decide.transfer.calibration import Calibration
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
)
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.planned import PlannedTrial


@dataclass(frozen=True)
class Results:
    """What is planned from.

    Attributes:
        stage: the stage before.
        measured: its trials that have a value.
        facts: what is known of the study's models, by their names.
        so_far: the trials of the planned stage itself, all ended, those without a value as NaN; empty when it is to be
            opened.
        calibrations: what earlier studies found between models of one family.
    """

    stage: str
    measured: Sequence[Measured]
    facts: Mapping[str, ModelFacts]
    so_far: Sequence[Measured] = ()
    calibrations: Sequence[Calibration] = ()


@dataclass(frozen=True)
class Plan:
    """Trials of a stage, why they were chosen, and the space that is searched beside them where it is more."""

    trials: list[PlannedTrial]
    choice: Choice
    searched: SearchSpace | None = None

    @property
    def reason(self) -> str:
        """Why these."""
        return self.choice.reason

    @property
    def space(self) -> SearchSpace:
        """What is searched; else the smallest space that holds every planned configuration, for Optuna's books."""
        return self.searched or enclosing_space([trial.parameters for trial in self.trials])


def enclosing_space(configurations: Sequence[Mapping[str, ParameterValue]]) -> SearchSpace:
    """Return the smallest space that contains all the configurations."""
    values: dict[str, dict[tuple[type, ParameterValue], ParameterValue]] = {}
    for configuration in configurations:
        for name, value in configuration.items():
            # by type too: 1, 1.0 and True are equal
            values.setdefault(name, {})[type(value), value] = value
    return SearchSpace(parameters={name: _enclosing_parameter(list(seen.values())) for name, seen in values.items()})


def _enclosing_parameter(values: list[ParameterValue]) -> Parameter:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        # in choices 1 and 1.0 are one
        return CategoricalParameter(choices=list({(isinstance(v, bool), v): v for v in values}.values()))
    if all(isinstance(v, int) for v in numbers):
        return IntParameter(low=int(min(numbers)), high=int(max(numbers)))
    return FloatParameter(low=float(min(numbers)), high=float(max(numbers)))
