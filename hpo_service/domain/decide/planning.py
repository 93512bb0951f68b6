"""What the next stage consists of: pure plans made from the results of the stage before, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hpo_service.domain.decide.scaling import CarriedConfig, bracket, carry_over
from hpo_service.domain.decide.selection import Choice, Measured, choose_top
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
    canonical_key,
)
from hpo_service.domain.study.sections.search import LARGEST_SEED
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.planned import PlannedTrial

CONFIRM_SEED_OFFSET = 1000
"""Confirmation seeds start this far from the search seed, so that none was used before."""


@dataclass(frozen=True)
class Results:
    """What is planned from.

    Attributes:
        stage: the stage before.
        measured: its trials that have a value.
        facts: what is known of the study's models, by their names.
    """

    stage: str
    measured: Sequence[Measured]
    facts: Mapping[str, ModelFacts]


@dataclass(frozen=True)
class Plan:
    """A stage to be opened: its trials, the space they lie in and why they were chosen."""

    trials: list[PlannedTrial]
    choice: Choice

    @property
    def reason(self) -> str:
        """Why these."""
        return self.choice.reason

    @property
    def space(self) -> SearchSpace:
        """The smallest space that holds every planned configuration, for Optuna's books."""
        return enclosing_space([trial.parameters for trial in self.trials])


def plan_carried(rule: StageRule, spec: StudySpec, before: Results) -> Plan | None:
    """Carry the best configurations to the target model, each at a short learning-rate bracket.

    Returns:
        The plan, or None where no trial of the stage before ran to the end.
    """
    if spec.model is None or spec.model.target is None:
        raise ValueError(f"study {spec.name} has no target model to {rule.name} on")
    choice = choose_top(before.measured, spec.transfer.top, spec.search.direction)
    if not choice.chosen:
        return None
    small, large = _facts_of(spec.model.base, before.facts), _facts_of(spec.model.target, before.facts)
    trials: dict[str, PlannedTrial] = {}
    for origin in choice.chosen:
        resolved = spec.training.hyperparameters().with_values(origin.parameters)
        carried = carry_over(origin.parameters, resolved, small, large, spec.transfer)
        if spec.model.target == spec.model.base:
            itself = {**origin.parameters, "learning_rate": resolved.learning_rate}
            carried = CarriedConfig(itself, "base and target are one model: the configuration itself")
        for factor, config in zip(sorted(spec.transfer.bracket), bracket(carried, spec.transfer), strict=True):
            planned = PlannedTrial(
                role="carried",
                label=f"{before.stage} #{origin.number}, lr x {factor:g}",
                parameters=config.parameters,
                seed=spec.search.seed,
                reason=config.reason,
                origin_id=origin.trial_id,
                score_test=rule.scores_test,
                keep_adapter=rule.keeps_adapter,
            )
            trials.setdefault(canonical_key(config.parameters), planned)
    return Plan(list(trials.values()), choice)


def _facts_of(model: str, facts: Mapping[str, ModelFacts]) -> ModelFacts:
    if model not in facts:
        raise ValueError(f"nothing is known about model {model}: no trial described it; please report this")
    return facts[model]


def plan_comparison(rule: StageRule, spec: StudySpec, before: Results) -> Plan | None:
    """Run the best configurations and the default again, with new seeds and in full.

    Returns:
        The plan, or None where no trial of the stage before ran to the end.
    """
    choice = choose_top(before.measured, spec.confirm.top, spec.search.direction)
    if not choice.chosen:
        return None
    sides: list[tuple[str, dict[str, ParameterValue], int | None]] = [
        (f"winner {rank}", c.parameters, c.trial_id) for rank, c in enumerate(choice.chosen, start=1)
    ]
    default = default_parameters(spec, choice.chosen[0].parameters)
    if default is not None:
        sides.append(("default", default, None))
    seeds = [(spec.search.seed + CONFIRM_SEED_OFFSET + i) % (LARGEST_SEED + 1) for i in range(spec.confirm.seeds)]
    trials = [
        PlannedTrial(
            role=label.split()[0],
            label=label,
            parameters=parameters,
            seed=seed,
            reason=f"{label} with new seed {seed}",
            origin_id=origin,
            score_test=rule.scores_test,
            keep_adapter=rule.keeps_adapter,
        )
        for seed in seeds
        for label, parameters, origin in sides
    ]
    return Plan(trials, choice)


Planner = Callable[[StageRule, StudySpec, Results], Plan | None]

PLANNERS: dict[str, Planner] = {"carry over": plan_carried, "compare": plan_comparison}
"""What plans a stage, by the name that its row gives; None where the stage before has nothing to plan from."""


def default_parameters(spec: StudySpec, like: Mapping[str, ParameterValue]) -> dict[str, ParameterValue] | None:
    """Return the configuration to beat, over the same parameters as `like`.

    The study's `confirm.default` where given; else, for the built-in trainer, the practitioners' default of each
    searched parameter. What `training` fixes stays fixed for both sides. None for an objective of the user's own
    without `confirm.default`: there is nothing to compare with.
    """
    given, plain = spec.confirm.default or {}, Hyperparameters()
    method = given.get("method", plain.method if "method" in like else spec.training.method)
    plain = plain.with_values({"learning_rate": METHODS[str(method)].rates.start})
    if spec.objective is not None:
        return {**like, **given} if spec.confirm.default is not None else None
    base: dict[str, ParameterValue] = {}
    for name in like:
        value = given.get(name, plain.alpha if name == "lora_alpha" else getattr(plain, name))
        base[name] = value
    if "lora_alpha" in given:
        base.pop("lora_alpha_multiplier", None)  # they say the same thing: what the study says stands
    elif "lora_alpha_multiplier" in given:
        base.pop("lora_alpha", None)
    return {**base, **given}


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
