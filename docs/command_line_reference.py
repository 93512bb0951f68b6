"""Writes the reference of docs/command-line.md from the commands themselves; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import typer

from hpo_service.cli import app

PAGE = Path(__file__).parent / "command-line.md"
BEGIN = "<!-- written by docs/command_line_reference.py: begin -->\n"
END = "<!-- written by docs/command_line_reference.py: end -->\n"
PROGRAM = "hpo-service"
HEAD = "\b\nExamples:\n"  # what `hpo_service.cli.examples` puts before the lines
VALUES = {int: "whole number", float: "number", str: "text", Path: "path"}


def reference() -> str:
    """Return a section for each command: how it is called, what it does, arguments, options and examples."""
    # the commands are read, not run: neither the terminal nor the environment has a say in what they are
    root = typer.main.get_command(app)
    return "\n".join(_sections(root, PROGRAM, 2))


def _sections(command: Any, path: str, level: int) -> Iterator[str]:
    names = _names(command)
    if path != PROGRAM:
        yield _section(command, path, level, group=bool(names))
    for name in names:
        yield from _sections(command.get_command(None, name), f"{path} {name}", min(3, level if path == PROGRAM else 3))


def _names(command: Any) -> list[str]:
    return command.list_commands(None) if hasattr(command, "list_commands") else []


def _section(command: Any, path: str, level: int, *, group: bool) -> str:
    parts = [f"{'#' * level} `{path}`", _prose(_told(command))]
    if not group or command.invoke_without_command:
        parts += [f"```text\n{_usage(command, path)}\n```", *_tables(command)]
    if command.epilog:
        lines = [line.removeprefix("  ") for line in command.epilog.removeprefix(HEAD).splitlines()]
        parts.append("```console\n" + "\n".join(_prompted(line) for line in lines) + "\n```")
    return "\n\n".join(parts) + "\n"


def _told(command: Any) -> str:
    """What a command says of itself; a group that also works alone has that in its function's docstring."""
    own = command.callback.__doc__ if getattr(command, "invoke_without_command", False) and command.callback else ""
    lines = [line.strip() for line in (own or "").strip().splitlines()]
    return "\n\n".join(part for part in (command.help or "", "\n".join(lines)) if part)


def _prompted(line: str) -> str:
    return line if line.startswith("#") else f"$ {line}"


def _usage(command: Any, path: str) -> str:
    arguments = [_argument(each) for each in command.params if each.param_type_name == "argument"]
    needed = [f"{each.opts[0]} {_metavar(each)}" for each in _options(command) if each.required]
    rest = ["[OPTIONS]"] if any(not each.required for each in _options(command)) else []
    return " ".join([path, *rest, *needed, *arguments])


def _argument(parameter: Any) -> str:
    name = _metavar(parameter) + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _options(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "option" and not each.hidden]


def _tables(command: Any) -> Iterator[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    if arguments:
        yield _table(["argument", "meaning"], ([f"`{_argument(each)}`", each.help or ""] for each in arguments))
    if _options(command):
        heads = ["option", "values", "default", "meaning"]
        yield _table(
            heads, ([_flags(each), _values(each), _default(each), each.help or ""] for each in _options(command))
        )


def _table(heads: list[str], rows: Iterator[list[str]]) -> str:
    ruled = [heads, ["---" for _ in heads], *([_cell(each) for each in row] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in ruled)


def _flags(option: Any) -> str:
    taken = "" if option.is_flag else f" {_metavar(option)}"
    return ", ".join(f"`{name}{taken}`" for name in [*option.opts, *option.secondary_opts])


def _metavar(parameter: Any) -> str:
    """The word for a value; choices and the brackets of what may be left out are said elsewhere."""
    said = (parameter.metavar or "").removeprefix("[").removesuffix("]")
    return said if said and not said.startswith("<") else str(parameter.name.upper())


def _kind(option: Any) -> Any:
    """The type of one value: of what may be left out, or given again, that of what is given."""
    kind = option.type_descriptor.annotation
    inner = [each for each in get_args(kind) if each is not type(None)]
    return inner[0] if inner else kind


def _values(option: Any) -> str:
    if option.is_flag:
        return "a switch"
    kind, metavar = _kind(option), option.metavar or ""
    if isinstance(kind, type) and issubclass(kind, Enum):
        said = ", ".join(f"`{each.value}`" for each in kind)
    elif metavar.startswith("<"):
        said = ", ".join(f"`{each}`" for each in metavar.strip("<>").split("|"))
    else:
        limits = [("at least", option.min), ("at most", option.max)]
        said = ", ".join(
            [VALUES.get(kind, "text"), *(f"{word} {limit:g}" for word, limit in limits if limit is not None)]
        )
    return f"{said}; may be repeated" if option.multiple else said


def _default(option: Any) -> str:
    if option.required:
        return "*required*"
    value = option.default.value if isinstance(option.default, Enum) else option.default
    if value is None or value is False or value in ("", []) or callable(value):
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _prose(text: str) -> str:
    return text.replace("[[", "\\[\\[").replace("]]", "\\]\\]")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def page(text: str) -> str:
    """Return the page with its reference replaced by the present one."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def main() -> int:
    """Rewrite the page, or with `--check` return 1 where it is out of date."""
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in sys.argv[1:]:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
