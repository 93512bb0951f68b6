"""What the linter has no contract for: no cycle, also not among imports for types alone, and folders one can survey."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "hpo_service"
MOST_MODULES = 15


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_at_module_level(body: list[ast.stmt]) -> Iterator[ast.ImportFrom | ast.Import]:
    """Imports that run with the module or stand under a condition such as TYPE_CHECKING; not those inside functions."""
    for statement in body:
        if isinstance(statement, ast.ImportFrom | ast.Import):
            yield statement
        elif isinstance(statement, ast.If | ast.Try):
            yield from imports_at_module_level([*statement.body, *statement.orelse])


def imported(statement: ast.ImportFrom | ast.Import) -> Iterator[str]:
    for alias in statement.names:
        if isinstance(statement, ast.Import):
            yield alias.name
        else:
            inner = f"{statement.module}.{alias.name}"
            yield inner if inner in SOURCES else str(statement.module)


def graph(sources: dict[str, Path]) -> dict[str, set[str]]:
    return {
        name: {
            target
            for statement in imports_at_module_level(ast.parse(path.read_text()).body)
            for target in imported(statement)
            if target in sources and target != name
        }
        for name, path in sources.items()
    }


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        order = list(TopologicalSorter(graph(SOURCES)).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert set(order) == set(SOURCES)


def test_the_search_for_circles_sees_imports_for_types_alone() -> None:
    code = "if TYPE_CHECKING:\n    from hpo_service.errors import HpoServiceError\n\ndef f():\n    import torch\n"
    found = [name for statement in imports_at_module_level(ast.parse(code).body) for name in imported(statement)]
    assert found == ["hpo_service.errors"]


def test_no_folder_holds_more_modules_than_one_can_survey() -> None:
    modules = Counter(path.parent.relative_to(PACKAGE) for path in SOURCES.values() if path.name != "__init__.py")
    assert {str(folder): count for folder, count in modules.items() if count > MOST_MODULES} == {}
