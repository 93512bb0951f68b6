"""An objective of the user's own, as a study file names it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from string import Formatter
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.validation import refusal

COMMAND_PLACEHOLDERS = ("seed", "checkpoint")
"""What a command may name in braces beside its parameters."""


class ObjectiveSpec(Section):
    """An objective of your own instead of the built-in trainer: exactly one of the two."""

    python: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:[\w.]+$",
        description="package.module:function, called with a trial context.",
    )
    command: str | None = Field(
        default=None,
        min_length=1,
        description="Command line with {parameter} placeholders, dots in names as they are, that prints JSON lines.",
    )

    @field_validator("command")
    @classmethod
    def _reads_as_a_command_line(cls, command: str | None) -> str | None:
        try:
            placeholders_in(command or "")
        except ValueError as error:
            remedy = "close every quote and brace, and double a brace that is meant as text"
            raise ValueError(f"cannot be read as a command line ({error}); {remedy}") from None
        return command

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.python is None) == (self.command is None):
            raise refusal("ObjectiveSpec", "give exactly one of python and command")
        return self

    def placeholders(self, parameters: Collection[str] = ()) -> list[str]:
        """Name what the command line takes from a trial with these parameters."""
        return placeholders_in(self.command or "", parameters)


def placeholders_in(command: str, parameters: Collection[str] = ()) -> list[str]:
    """List the names in braces in a command line's words; `{{` stands for a brace.

    Args:
        command: the command line.
        parameters: names that are meant as they stand; `{a.b}` is a part of `a` where there is no `a.b` among them.

    Raises:
        ValueError: a quote or brace is left open.
    """
    names = [name for word in shlex.split(command) for name in _names(word)]
    return [name if name in parameters else re.split(r"[.\[]", name)[0] for name in names]


def _names(text: str) -> Iterator[str]:
    for _, name, format_, _ in Formatter().parse(text):
        if name is not None:
            yield name
            yield from _names(format_ or "")  # a width may be a parameter too


def can_be_named(parameter: str) -> bool:
    """Tell whether a name in braces means the parameter of that name."""
    try:
        return parameter != "" and list(Formatter().parse(f"{{{parameter}}}")) == [("", parameter, "", None)]
    except ValueError:
        return False


class _ByWholeName(Formatter):
    """Fills in `{optim.lr}` with the value of that very name where there is one, not with a part of `optim`."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        """Return the value of a name, or the part of a value that it means, and the name."""
        return (kwargs[field_name], field_name) if field_name in kwargs else super().get_field(field_name, args, kwargs)


def command_line(template: str, values: Mapping[str, object]) -> list[str]:
    """Split a command line and put the values in; a value never becomes more than one argument.

    Raises:
        KeyError: a placeholder has no value.
        ValueError: the line cannot be split, or a value cannot be written as its placeholder asks.
    """
    filled = _ByWholeName()
    if "" in placeholders_in(template):
        raise ValueError("braces without a name between them; double them where they are meant as text")
    try:
        return [filled.vformat(word, (), values) for word in shlex.split(template)]
    except (IndexError, AttributeError, TypeError) as error:
        raise ValueError(str(error)) from error
