"""What an objective of the user's own leaves out, and what it may name."""

from __future__ import annotations

from hpo_service.domain.study.combinations import values_of
from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.objective import COMMAND_PLACEHOLDERS, can_be_named, command_line
from hpo_service.domain.study.spelling import unknown
from hpo_service.domain.study.validation import Violations


def model_and_data_are_left_out(study: StudyFields, wrong: Violations) -> None:
    """It replaces the built-in trainer."""
    for section in ("model", "data"):
        if getattr(study, section) is not None:
            reason = "an objective of your own replaces the built-in trainer"
            wrong.add(f"{reason}: drop {section}, or drop objective", section)


def default_is_of_the_space(study: StudyFields, wrong: Violations) -> None:
    """The configuration to beat consists of parameters that are searched."""
    parameters = study.space.resolve().parameters
    for name in study.confirm.default or {}:
        if name not in parameters:
            wrong.add(unknown("parameter of this space", name, parameters), "confirm", "default", name)


def placeholders_are_known(study: StudyFields, wrong: Violations) -> None:
    """A command names parameters that are searched, and what every trial has."""
    known = [*study.space.resolve().parameters, *COMMAND_PLACEHOLDERS]
    for name in study.objective.placeholders(known) if study.objective else ():
        if name not in known:
            wrong.add(f"{{{name}}} {unknown('parameter of this space', name, known)}", "objective", "command")


def parameters_are_named_apart(study: StudyFields, wrong: Violations) -> None:
    """A name in a command's braces means one thing: a parameter, or what every trial has."""
    if study.objective is None or study.objective.command is None:
        return
    for name in study.space.resolve().parameters:
        if name in COMMAND_PLACEHOLDERS:
            reason = f"is what every command gets as {{{name}}} from its trial: give the parameter another name"
            wrong.add(reason, "space", "parameters", name)
        elif not can_be_named(name):
            reason = "cannot stand in the braces of a command: use letters, digits, dots, '_' and '-' in its name"
            wrong.add(reason, "space", "parameters", name)


def command_can_be_filled_in(study: StudyFields, wrong: Violations) -> None:
    """What a command asks of how its values are written can be done, to the first value of each parameter at least."""
    if study.objective is None or study.objective.command is None:
        return
    example: dict[str, ParameterValue] = {
        name: values_of(parameter)[0] for name, parameter in study.space.resolve().parameters.items()
    }
    try:
        command_line(study.objective.command, {**example, "seed": 1, "checkpoint": "folder"})
    except KeyError:  # a name that is not known: that is said already
        return
    except ValueError as error:
        wrong.add(f"cannot be filled in ({error}): correct what stands behind the colon", "objective", "command")
