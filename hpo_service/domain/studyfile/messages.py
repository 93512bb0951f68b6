"""What the models refuse, in words for the person who wrote the file: what is wrong, then what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hpo_service.domain.study.fields import NAME_PATTERN
from hpo_service.domain.study.hyperparameters import SEARCHABLE
from hpo_service.domain.study.search_space import CategoricalParameter, FloatParameter, IntParameter
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.study.spelling import nearest
from hpo_service.domain.study.validation import MISFIT
from hpo_service.domain.studyfile.document import Complaint, Document, KeyPath, dotted

_KINDS: dict[str, type[BaseModel]] = {
    "float": FloatParameter,
    "int": IntParameter,
    "categorical": CategoricalParameter,
}
_PARAMETERS: KeyPath = ("space", "parameters")
_UNION_TAG = re.compile(r"bool|int|float|str|categorical|(literal|list|dict|constrained|function)\b.*")
_LONGEST_SHOWN = 40


def complaints_of(error: ValidationError, document: Document) -> list[Complaint]:
    """Say each thing that the models refuse once, at its place in the file."""
    found: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_path_in(document, detail["loc"]), []).append(detail)
    said_deeper = {path[:end] for path in found for end in range(len(path))}
    return [
        document.complaint(*_worded(path, details))
        for path, details in found.items()
        if path not in said_deeper and not (details[0]["type"] == "missing" and _is_misspelt(path, found))
    ]


def _is_misspelt(path: KeyPath, found: Mapping[KeyPath, list[ErrorDetails]]) -> bool:
    """Whether a missing key is there under a name much like it."""
    unknown = (
        str(other[-1])
        for other, details in found.items()
        if other[:-1] == path[:-1] and details[0]["type"] == "extra_forbidden"
    )
    return any(nearest(key, [str(path[-1])]) for key in unknown)


def _path_in(document: Document, loc: KeyPath) -> KeyPath:
    """Drop from pydantic's location what only names a branch of a union."""
    path: KeyPath = ()
    for part in loc:
        if (*path, part) in document.lines or not _UNION_TAG.fullmatch(str(part)):
            path = (*path, part)
    return path


def _worded(path: KeyPath, details: list[ErrorDetails]) -> tuple[KeyPath, str]:
    # of a union's branches, the one that takes lists knows best what is wrong with a list
    detail = next((found for found in details if found["type"] == "too_short"), details[0])
    kind = detail["type"]
    if kind == "union_tag_invalid":
        options = list(_KINDS)
        return (*path, "type"), _one_of(options, detail["input"].get("type"))
    if kind == "literal_error" and details[-1]["type"] in _NUMBERS:
        # a word, or else a number: what is wrong with the number says what a number may be
        number = _WORDS.get(details[-1]["type"], _in_pydantics_words)(details[-1], path)
        return path, f"must be {', '.join(_options(detail))} or {number.removeprefix('must be ')}"
    if len(details) > 1 and "string_type" in {other["type"] for other in details}:
        return path, f"must be a number, text, true or false, not {shown(detail['input'])}"
    if path[:-1] == _PARAMETERS and kind in ("union_tag_not_found", "model_attributes_type"):
        return path, _no_parameter(detail["input"])
    words = _WORDS.get(kind, _in_pydantics_words)
    return path, words(detail, path)


def _no_parameter(given: Any) -> str:
    if isinstance(given, Mapping):
        return "needs choices, or low and high"
    example = "write {low: ..., high: ...} or {choices: [...]}, and put a fixed value under training"
    return f"must say what to search, not {shown(given)}; {example}"


def _one_of(options: Iterable[str], given: Any) -> str:
    known = list(options)
    near = nearest(given, known) if isinstance(given, str) else None
    return f"must be one of {', '.join(known)}, not {shown(given)}" + (f"; the nearest is {near}" if near else "")


def shown(value: Any) -> str:
    """Show a value of the file in a message: short, on one line, text quoted."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        short = value if len(value) <= _LONGEST_SHOWN else value[: _LONGEST_SHOWN - 3] + "..."
        return f"the text {short!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"{value:g}" if isinstance(value, float) else str(value)[:_LONGEST_SHOWN]


def _missing(detail: ErrorDetails, path: KeyPath) -> str:
    model = model_at(detail["loc"][:-1])
    field = model.model_fields.get(str(path[-1])) if model else None
    description = field.description if field and field.description else "it has no default."
    return f"is missing: {description[0].lower()}{description[1:].rstrip('.')}"


def _unknown_key(detail: ErrorDetails, path: KeyPath) -> str:
    key = str(path[-1])
    if path[:2] == ("confirm", "default"):
        return f"is no hyper-parameter; {_nearest_or_all(key, SEARCHABLE)}"
    home = model_at(detail["loc"][:-1]) or StudySpec
    homes = list(_homes(key, StudySpec, ()))
    below = [place for place in homes if place[: len(path) - 1] == path[:-1]]
    if (homes and not nearest(key, home.model_fields)) or (below and path[:-1]):
        return f"is not a key here; {_where_it_belongs(key, below or homes)}"
    meant = nearest(key, SEARCHABLE)
    if not path[:-1] and meant and not nearest(key, home.model_fields):
        return f"is not a key here; for {meant}, {_where_it_belongs(meant, ())}"
    return f"is not a key here; {_nearest_or_all(key, home.model_fields)}"


def _where_it_belongs(key: str, homes: Iterable[KeyPath]) -> str:
    if key in SEARCHABLE:
        return "put it under training to fix it, or under space.parameters to search it"
    return f"it belongs under {' or '.join(dotted(home) for home in homes)}"


def _nearest_or_all(key: str, valid: Iterable[str]) -> str:
    names = list(valid)
    near = nearest(key, names)
    return f"the nearest is {near}" if near else f"those are {', '.join(names)}"


def _homes(key: str, model: type[BaseModel], path: KeyPath) -> Iterator[KeyPath]:
    """Find the sections that have this key."""
    for name, field in model.model_fields.items():
        if name == key and path:
            yield path
        section = _model_in(field.annotation)
        if section:
            yield from _homes(key, section, (*path, name))


def model_at(loc: KeyPath) -> type[BaseModel] | None:
    """Return the model that reads the mapping at pydantic's location, if it is one with fixed keys."""
    if loc[:2] == _PARAMETERS and len(loc) > 2:
        return _KINDS.get(str(loc[3])) if len(loc) == 4 else None
    model: type[BaseModel] | None = StudySpec
    for part in loc:
        field = model.model_fields.get(str(part)) if model else None
        model = _model_in(field.annotation) if field else None
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    branches = [branch for branch in (annotation, *get_args(annotation)) if isinstance(branch, type)]
    return next((branch for branch in branches if issubclass(branch, BaseModel)), None)


def _number(what: str) -> Callable[[ErrorDetails, KeyPath], str]:
    def words(detail: ErrorDetails, _path: KeyPath) -> str:
        given = detail["input"]
        quoted = isinstance(given, str) and re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", given.lower())
        return f"must be {what}, not {shown(given)}" + ("; drop the quotes" if quoted else "")

    return words


def _keys(detail: ErrorDetails, path: KeyPath) -> str:
    model = model_at(path)
    keys = f"such as {', '.join(list(model.model_fields)[:3])}" if model else "with a value each"
    if detail["input"] is None:
        return f"is empty; give it keys {keys}, or drop the line"
    return f"must hold keys {keys}, not {shown(detail['input'])}"


def _pattern(detail: ErrorDetails, _path: KeyPath) -> str:
    given = str(detail["input"])
    if detail["ctx"]["pattern"] != NAME_PATTERN:
        return f"must read package.module:function, not {shown(given)}"
    valid = re.sub(r"[^A-Za-z0-9._-]+", "-", given).strip("-._")[:100]
    example = f"; for example {valid}" if valid else ""
    return f"must be up to 100 letters, digits, '.', '_' or '-', starting with a letter or digit{example}"


def _literal(detail: ErrorDetails, path: KeyPath) -> str:
    names = " (or a list of module names)" if path[-1] == "target_modules" else ""
    return _one_of(_options(detail), detail["input"]) + names


def _options(detail: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", detail["ctx"]["expected"])


def _in_pydantics_words(detail: ErrorDetails, _path: KeyPath) -> str:
    return detail["msg"].removeprefix("Value error, ").replace("Input should", "must")


def _said(words: str) -> Callable[[ErrorDetails, KeyPath], str]:
    def say(detail: ErrorDetails, _path: KeyPath) -> str:
        numbers = {k: f"{v:g}" if isinstance(v, float) else v for k, v in detail.get("ctx", {}).items()}
        return words.format(given=shown(detail["input"]), **numbers)

    return say


_WORDS: dict[str, Callable[[ErrorDetails, KeyPath], str]] = {
    MISFIT: _in_pydantics_words,
    "missing": _missing,
    "extra_forbidden": _unknown_key,
    "literal_error": _literal,
    "greater_than": _said("must be above {gt}, not {given}"),
    "greater_than_equal": _said("must be at least {ge}, not {given}"),
    "less_than": _said("must be below {lt}, not {given}"),
    "less_than_equal": _said("must be at most {le}, not {given}"),
    "finite_number": _said("must be a finite number, not {given}"),
    "int_type": _number("a whole number"),
    "float_type": _number("a number"),
    "bool_type": _said("must be true or false, not {given}"),
    "string_type": _said("must be text, not {given}; text that looks like something else needs quotes"),
    "string_unicode": _said("must be text, and holds half a character (a lone surrogate): write the whole one"),
    "string_too_short": _said("must not be empty"),
    "string_too_long": _said("must be at most {max_length} characters long"),
    "string_pattern_mismatch": _pattern,
    "too_short": _said("must not be an empty list"),
    "list_type": _said("must be a list such as [a, b], not {given}"),
    "dict_type": _keys,
    "model_type": _keys,
    "model_attributes_type": _keys,
}
"""Words for each kind of refusal; what is not listed says it in pydantic's."""

_NUMBERS = frozenset({"int_type", "int_from_float", "greater_than_equal", "less_than_equal"})
"""Kinds that say what is wrong with a number."""
