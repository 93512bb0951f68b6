"""An objective of the user's own, as a study file names it."""

from __future__ import annotations

import re
import shlex
from string import Formatter
from typing import Self

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
        description="Command line with {parameter} placeholders that prints JSON lines.",
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

    def placeholders(self) -> list[str]:
        """Name what the command line takes from a trial."""
        return placeholders_in(self.command or "")


def placeholders_in(command: str) -> list[str]:
    """List the names in braces in a command line's words; `{{` stands for a brace.

    Raises:
        ValueError: a quote or brace is left open.
    """
    fields = [field for word in shlex.split(command) for _, field, _, _ in Formatter().parse(word)]
    return [re.split(r"[.\[]", field)[0] for field in fields if field is not None]
