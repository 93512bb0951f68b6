"""The command line of a sweep's runs, as that of an objective: W&B's macros become placeholders."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.sweepfile.distributions import Parameter
from hpo_service.domain.sweepfile.reading import Reading

USUAL = ["${env}", "${interpreter}", "${program}", "${args}"]
"""What W&B runs where a sweep file has no `command`."""
_PLAIN = re.compile(r"[\w@%+=:,./{}$-]+", re.ASCII)
_MACRO = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class Arguments:
    """What a run is given: parameters that are searched, values that are fixed, and the seed, which each trial has."""

    searched: Mapping[str, Parameter]
    fixed: Mapping[str, ParameterValue]
    seeded: bool = False

    def words(self, prefix: str) -> list[str]:
        """Return a word for each, `--name=value` or without the hyphens."""
        names = [*(f"{prefix}{_literal(name)}={_literal(str(value))}" for name, value in self.fixed.items())]
        names += [f"{prefix}{_literal(name)}={{{name}}}" for name in self.searched]
        return [*names, *([f"{prefix}seed={{seed}}"] if self.seeded else [])]

    def as_json(self) -> str:
        """Return one word with all of them as a JSON object."""
        parts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in self.fixed.items()]
        said = [_literal(part) for part in parts]
        said += [f"{_literal(json.dumps(name))}: {_in_json(name, one)}" for name, one in self.searched.items()]
        said += ['"seed": {seed}'] if self.seeded else []
        return f"{{{{{', '.join(said)}}}}}"


def command_of(read: Reading, arguments: Arguments) -> str:
    """Return the command line that a sweep's agent would run.

    Raises:
        StudyFileError: there is neither a program nor a command, or the command is no list of words.
    """
    program, given = read.take("program"), read.take("command")
    if isinstance(given, str):
        given = shlex.split(given)
    words = USUAL if given is None else given
    if not isinstance(words, list) or not words:
        raise read.wrong("must be a list of words", "command")
    if program is None and (given is None or "${program}" in given):
        raise read.wrong("names no program: give the script that a run starts as `program`")
    if not any("${args" in str(word) for word in words):
        read.remark("passes no ${args}: the script must get its parameters otherwise, here it gets none", "command")
    made = [part for word in words for part in _expanded(read, str(word), str(program), arguments)]
    return " ".join(word if _PLAIN.fullmatch(word) else shlex.quote(word) for word in made)


def _expanded(read: Reading, word: str, program: str, arguments: Arguments) -> list[str]:
    whole = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": ["python"],
        "${program}": [_literal(program)],
        "${args}": arguments.words("--"),
        "${args_no_hyphens}": arguments.words(""),
        "${args_json}": [arguments.as_json()],
    }
    if word in whole:
        return whole[word]
    if word == "${args_no_boolean_flags}":
        read.remark(
            "${args_no_boolean_flags} becomes --name=value, for booleans too: a flag cannot be left out", "command"
        )
        return arguments.words("--")
    for macro in _MACRO.finditer(word):
        if macro[0] not in whole:
            read.remark(f"{macro[0]} has no counterpart and stands as it is: write what it means", "command")
    parts = re.split(r"(\$\{(?:env|interpreter|program)\})", word)
    return ["".join(whole[part][0] if part in whole else _literal(part) for part in parts)]


def _literal(text: str) -> str:
    """Return text as a command line has it, in which single braces are placeholders."""
    return text.replace("{", "{{").replace("}", "}}")


def _in_json(name: str, parameter: Parameter) -> str:
    """Return a placeholder as it stands in JSON: quoted where its values are texts."""
    choices = parameter.get("choices", [])
    return f'"{{{name}}}"' if any(isinstance(choice, str | bool) for choice in choices) else f"{{{name}}}"
