"""What a tool is given: files with a header, the command that reads them, and what has no counterpart there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.comments import CommentedMap

from hpo_service.errors import UsageError
from hpo_service.presentation.study_text import yaml_text
from hpo_service.service.studies.winner.recipe import Recipe
from hpo_service.service.studies.winner.rows import WrittenRows


@dataclass
class Translation:
    """A recipe in a tool's words.

    Attributes:
        files: text of each file by its name.
        command: what starts the tool with them, from within their folder.
        left_out: what of the recipe the tool has no counterpart for, a sentence each.
    """

    files: dict[str, str] = field(default_factory=dict)
    command: str = ""
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tool:
    """A tool that winners are exported to.

    Attributes:
        about: what a person finds afterwards.
        methods: those of ours that it can train.
        translate: puts a recipe and its rows into the tool's words.
        pairs: whether conversations with one answer are to be written as prompt and completion.
        ends: whether completions are to be written with their end mark, since the tool adds none.
        own_template: whether it can be given a chat template that is not the model's.
    """

    about: str
    methods: frozenset[str]
    translate: Callable[[Recipe, WrittenRows], Translation]
    pairs: bool = False
    ends: bool = False
    own_template: bool = False


def require_method(name: str, tool: Tool, recipe: Recipe, others: list[str]) -> None:
    """Refuse a method that a tool cannot train.

    Raises:
        UsageError: it cannot; the message names the tools that can.
    """
    method = recipe.training.method
    if method in tool.methods:
        return
    remedy = f"--to {' or '.join(others)}" if others else "`hpo-service train` does"
    raise UsageError(f"{name} cannot train method {method} of study {recipe.study}: {remedy}")


def commented(recipe: Recipe, command: str, left_out: list[str]) -> str:
    """Return the header of a file, without comment marks."""
    lines = [*recipe.header(), f"Start: {command}"]
    return "\n".join([*lines, *(f"Not carried over: {each}" for each in left_out)])


def yaml_file(values: Mapping[str, Any], header: str) -> str:
    """Return values as YAML below a header; those that are None are left out."""
    document = CommentedMap({name: value for name, value in values.items() if value is not None})
    document.yaml_set_start_comment(header)
    return yaml_text(document)
