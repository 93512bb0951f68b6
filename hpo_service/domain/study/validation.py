"""Refusals that know their place: errors raised by a model's own rules, located like pydantic's."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import GetPydanticSchema, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema

MISFIT = "misfit"
"""Error type of rules of our own; its message is complete as it stands."""


class Violations:
    """Collects what is wrong, so that one look reports all of it.

    A ValidationError raised inside a validator is merged by pydantic into the enclosing one, with the path of
    the enclosing model put before its own: rules state paths relative to their model.
    """

    def __init__(self) -> None:
        self._found: list[InitErrorDetails] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, message: str, *path: str | int) -> None:
        """Note that what stands at `path` is wrong; the message says why and what to do instead."""
        self._found.append(_noted(message, path))

    def adopt(self, error: ValidationError, *path: str | int) -> None:
        """Take over the errors of a check made on a part of the model, as found at `path`."""
        for detail in error.errors(include_url=False):
            self._found.append(_moved(detail, path))

    def adopt_value(self, error: ValidationError, *path: str | int) -> None:
        """Take over the first error of a check made on a single value, as standing at `path` itself."""
        detail = error.errors(include_url=False)[0]
        self._found.append(_moved({**detail, "loc": ()}, path))

    def settle(self, title: str) -> None:
        """Raise a ValidationError if anything was noted."""
        if self._found:
            raise ValidationError.from_exception_data(title, self._found)


def refusal(title: str, message: str, *path: str | int) -> ValidationError:
    """Build the error for the one thing that is wrong at `path`; the caller raises it."""
    return ValidationError.from_exception_data(title, [_noted(message, path)])


def one_of(names: Iterable[str], kind: type[str] = str) -> GetPydanticSchema:
    """Annotate a text of the study file that must be one of these names: a `Literal` whose names stand in a table.

    Args:
        names: what may be written.
        kind: what it becomes once it is read; a kind of text.
    """
    known: CoreSchema = core_schema.literal_schema(list(names))
    if kind is not str:
        written = core_schema.plain_serializer_function_ser_schema(str)
        known = core_schema.no_info_after_validator_function(kind, known, serialization=written)
    return GetPydanticSchema(lambda _source, _handler: known)


def rising_fractions(fractions: list[float]) -> list[float]:
    """Return fractions of a run, as they are.

    Raises:
        ValueError: they do not rise, or lie outside (0, 1).
    """
    if any(not 0 < fraction < 1 for fraction in fractions) or sorted(set(fractions)) != fractions:
        raise ValueError("rungs must be rising fractions between 0 and 1")
    return fractions


def _noted(message: str, path: tuple[str | int, ...]) -> InitErrorDetails:
    error = PydanticCustomError(MISFIT, "{text}", {"text": message})
    return InitErrorDetails(type=error, loc=path, input=None)


def _moved(detail: ErrorDetails, path: tuple[str | int, ...]) -> InitErrorDetails:
    place = (*path, *detail["loc"])
    if detail["type"] == MISFIT:
        return _noted(detail["msg"], place)
    return InitErrorDetails(type=detail["type"], loc=place, input=detail["input"], ctx=detail.get("ctx", {}))
