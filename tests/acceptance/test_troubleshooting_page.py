"""The page about trouble quotes what the product says, and names commands that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer

from hpo_service.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTES = [line for block in re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
COMMANDS = sorted(set(re.findall(r"`hpo-service ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", PAGE)))


def told(node):
    """The text of a literal, with a gap where something is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(told(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "\0"


def literals():
    for file in (ROOT / "hpo_service").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr | ast.Constant):
                yield re.sub(r"\{\w+\}", "\0", told(node))


SAID = set(literals())


def found(quote):
    pieces = [re.escape(piece.strip(" ")) for piece in quote.split("...") if piece.strip(" ")]
    pattern = re.compile(r"[^\0]*\0.*?".join(pieces), flags=re.DOTALL)
    return any(pattern.search(text) for text in SAID)


@pytest.mark.parametrize("quote", QUOTES)
def test_every_quoted_line_is_one_that_the_product_says(quote):
    assert found(quote)


def test_a_line_that_the_product_does_not_say_is_noticed():
    assert not found("the database ... is somewhat tired: let it sleep")


def test_the_page_has_the_usual_troubles():
    assert len(QUOTES) > 25


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_named_exists(command):
    group = typer.main.get_command(app)
    for name in command.split():
        if not hasattr(group, "get_command"):
            break  # what follows a command that has none below it is an argument
        group = group.get_command(None, name)
        assert group is not None
