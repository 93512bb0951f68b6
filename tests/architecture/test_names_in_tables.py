"""What depends on a stage or a method stands in its row: nowhere else is its name compared with anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo_service.domain.study import protocol
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.protocol import STAGES, StageRule

ROOT = Path(__file__).parents[2] / "hpo_service"
TABLES = {ROOT / "domain" / "study" / name for name in ("protocol.py", "methods.py")}
SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if path not in TABLES]
ROWS = {name for name, value in vars(protocol).items() if isinstance(value, StageRule)}
NAMES = {*STAGES, *METHODS}


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names of stages and methods, and rows of stages, that a comparison or a `case` looks for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for operator, side in zip([ast.Eq(), *node.ops], [node.left, *node.comparators], strict=True):
                # a tuple that something equals is a path of keys in the study file; one that holds it lists names
                lists = ast.Tuple | ast.List | ast.Set if isinstance(operator, ast.In | ast.NotIn) else ast.Set
                for each in side.elts if isinstance(side, lists) else [side]:
                    yield from named(each)
        elif isinstance(node, ast.MatchValue):
            yield from named(node.value)


def named(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Constant) and node.value in NAMES:
        yield node.lineno, repr(node.value)
    for row in (part for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute)):
        name = row.id if isinstance(row, ast.Name) else row.attr
        if name in ROWS:
            yield row.lineno, name


def test_no_stage_and_no_method_is_told_by_its_name() -> None:
    found = {str(path.relative_to(ROOT)): [*compared(ast.parse(path.read_text()))] for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == {}


def test_nor_in_the_page_that_is_shown() -> None:
    quoted = "|".join(NAMES)
    for template in ROOT.rglob("*.j2"):
        assert re.findall(rf"""[=!]=\s*["'](?:{quoted})["']""", template.read_text()) == []


@pytest.mark.parametrize(
    "code", ["m == 'dora'", "s in ('search', 'x')", "r is VERIFY", "s != protocol.CONFIRM.name", "{'full'} != set(m)"]
)
def test_such_a_comparison_is_found(code: str) -> None:
    assert list(compared(ast.parse(code)))


def test_a_path_of_keys_is_no_such_comparison() -> None:
    assert list(compared(ast.parse("path[:2] == ('confirm', 'default')"))) == []
