"""What may be searched: hyper-parameters, with values that they can have."""

from __future__ import annotations

from pydantic import ValidationError

from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.hyperparameters import ALPHA_GIVEN_TWICE, SEARCHABLE, Hyperparameters
from hpo_service.domain.study.search_space import CategoricalParameter, ParameterValue
from hpo_service.domain.study.spelling import unknown
from hpo_service.domain.study.validation import Violations


def searched_values_are_possible(study: StudyFields, wrong: Violations) -> None:
    """Every searched name is a hyper-parameter, and the ends or choices of its range are values of it."""
    for name, parameter in study.space.parameters.items():
        place = ("space", "parameters", name)
        if name not in SEARCHABLE:
            wrong.add(unknown("hyper-parameter", name, SEARCHABLE), *place)
        elif isinstance(parameter, CategoricalParameter):
            for index, choice in enumerate(parameter.choices):
                _check_value(wrong, name, choice, (*place, "choices", index))
        elif parameter is not None:
            _check_value(wrong, name, parameter.low, (*place, "low"))
            _check_value(wrong, name, parameter.high, (*place, "high"))


def _check_value(wrong: Violations, name: str, value: ParameterValue, place: tuple[str | int, ...]) -> None:
    """Note it where the hyper-parameter itself refuses a value that the space would propose."""
    try:
        Hyperparameters.model_validate({name: value}, strict=True)
    except ValidationError as error:
        wrong.adopt_value(error, *place)


def alpha_is_given_once(study: StudyFields, wrong: Violations) -> None:
    """Alpha is set by itself or by its multiplier."""
    searched = study.space.resolve().parameters
    remedy = f"{ALPHA_GIVEN_TWICE}, or write `{{}}: null` under space.parameters"
    if "lora_alpha" in searched and "lora_alpha_multiplier" in searched:
        wrong.add(remedy.format("lora_alpha_multiplier"), "space", "parameters", "lora_alpha")
    if "lora_alpha_multiplier" in searched and study.training.lora_alpha is not None:
        wrong.add(remedy.format("lora_alpha_multiplier"), "training", "lora_alpha")
    if "lora_alpha" in searched and study.training.lora_alpha_multiplier != 1.0:
        wrong.add(remedy.format("lora_alpha"), "training", "lora_alpha_multiplier")
