"""What an objective of the user's own leaves out, and what it may name."""

from __future__ import annotations

from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.sections.objective import COMMAND_PLACEHOLDERS
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
    for name in study.objective.placeholders() if study.objective else ():
        if name not in known:
            wrong.add(f"{{{name}}} {unknown('parameter of this space', name, known)}", "objective", "command")
