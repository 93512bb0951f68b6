"""What the standard library's own source offers as data: docstring pairs to tune on, and text to pre-train on.

Files are read and parsed, never imported, so nothing runs and nothing is needed beside Python itself.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import re
import sysconfig
import textwrap
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from hpo_service.errors import DataError

# Not the library itself: its tests, the editor, bundled or installed packages, demos and generated tables.
SKIPPED_FOLDERS = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "encodings",
        "ensurepip",
        "idle_test",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)
MAX_PROMPT_CHARS = 120
MAX_COMPLETION_CHARS = 160
MIN_COMPLETION_WORDS = 3
# One long module must not fill the pre-training text.
MAX_DOCUMENT_CHARS = 24_000

_SENTENCE_END = re.compile(r"""(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\betc)[.!?](?=\s+[A-Z0-9"'`(]|\s*$)""")
# Docstrings that open with a call, a field list, a doctest or a rule say nothing in words.
_NOT_PROSE = re.compile(r"^\S*\w\(|^[^\w\"'`(]|>>>|::|->|--|==")

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class _Module:
    """One parsed source file; `name` is its path relative to the library."""

    name: str
    source: str
    tree: ast.Module

    @cached_property
    def definitions(self) -> list[tuple[str, _Definition]]:
        """Every class and function in source order, each with the name of the class it sits in ('' outside)."""
        return list(_walk(self.tree, owner=""))


def docstring_pairs(root: Path | None = None) -> list[dict[str, str]]:
    """Pairs of a signature and the first sentence of its docstring.

    Each sentence occurs once (compared without case and punctuation). The order is that of a content hash: it
    depends on nothing but the pairs, and any prefix is a fair sample of the library.

    Args:
        root: folder with the sources; the running Python's standard library when left out.

    Returns:
        Rows `{"prompt": "def Class.name(arguments):", "completion": "One sentence."}`; the prompt ends in a newline.

    Raises:
        DataError: no Python source lies under `root`.
    """
    rows: dict[str, dict[str, str]] = {}
    modules = (_parse(path, name) for name, path in _files(root))
    for module in filter(None, modules):
        for owner, node in module.definitions:
            sentence = first_sentence(ast.get_docstring(node) or "")
            prompt = f"{_signature(node, owner)}\n"
            if sentence and len(prompt) <= MAX_PROMPT_CHARS:
                rows.setdefault(_normalised(sentence), {"prompt": prompt, "completion": sentence})
    return sorted(rows.values(), key=lambda row: _digest(row["prompt"] + row["completion"]))


@cache
def library_pairs() -> tuple[dict[str, str], ...]:
    """The pairs of the running Python's library, kept in the process: parsing it takes some four seconds.

    Nobody changes a row of it.

    Raises:
        DataError: this Python ships without its library's source.
    """
    return tuple(docstring_pairs())


def source_documents(max_chars: int, root: Path | None = None) -> list[str]:
    """The library's source as documents to pre-train on, with every docstring's first paragraph cut out.

    The cut keeps the sentences of `docstring_pairs` out of pre-training, so held-out rows stay unseen. Which
    files are taken, and their order, follow a hash of their names.

    Args:
        max_chars: total length at which to stop; the last document is cut there.
        root: folder with the sources; the running Python's standard library when left out.

    Raises:
        DataError: no Python source lies under `root`.
    """
    documents: list[str] = []
    for name, path in sorted(_files(root), key=lambda file: _digest(file[0])):
        module = _parse(path, name)
        text = _without_summaries(module)[: min(MAX_DOCUMENT_CHARS, max_chars)] if module else ""
        max_chars -= len(text)
        if text:
            documents.append(text)
        if max_chars <= 0:
            break
    return documents


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring on one line, ending in a full stop; '' where it opens with no prose."""
    paragraph = " ".join(inspect.cleandoc(docstring).split("\n\n", 1)[0].split())
    end = _SENTENCE_END.search(paragraph)
    sentence = (paragraph[: end.start()] if end else paragraph).rstrip(" .:;,") + "."
    long_enough = len(sentence.split()) >= MIN_COMPLETION_WORDS
    if not long_enough or len(sentence) > MAX_COMPLETION_CHARS or _NOT_PROSE.search(sentence):
        return ""
    return sentence


def _files(root: Path | None) -> list[tuple[str, Path]]:
    """The library's source files in the order of their names (paths relative to the root)."""
    folder = root or Path(sysconfig.get_paths()["stdlib"])
    files = []
    for place, subfolders, names in os.walk(folder):
        # In place, so that the walk never enters them: what is installed outnumbers the library.
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        paths = [Path(place, name) for name in names if name.endswith(".py") and not name.startswith("_sysconfigdata")]
        files += [(path.relative_to(folder).as_posix(), path) for path in paths]
    if not files:
        raise DataError(
            f"no Python source found under {folder}: this Python ships without its library's source; "
            "name a data file in the study's data.source instead of a builtin one"
        )
    return sorted(files)


def _parse(path: Path, name: str) -> _Module | None:
    """The parsed file, or None where it is not valid Python (the library ships such files for its own tests)."""
    try:
        with tokenize.open(path) as stream:
            source = stream.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Module(name, source, ast.parse(source))
    except (SyntaxError, ValueError):
        return None


def _walk(node: ast.AST, owner: str) -> Iterator[tuple[str, _Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition):
            yield owner, child
            yield from _walk(child, owner=child.name if isinstance(child, ast.ClassDef) else "")
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _walk(child, owner)


def _signature(node: _Definition, owner: str) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    name = f"{owner}.{node.name}" if owner else node.name
    keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{keyword} {name}({ast.unparse(node.args)}):"


def _without_summaries(module: _Module) -> str:
    """The module's source with each class's and function's docstring reduced to what follows its first paragraph."""
    source = module.source.encode()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for _, node in reversed(module.definitions):
        docstring = ast.get_docstring(node)
        if docstring is None:
            continue
        literal = node.body[0]
        begin = starts[literal.lineno - 1] + literal.col_offset
        end = starts[(literal.end_lineno or literal.lineno) - 1] + (literal.end_col_offset or 0)
        source = source[:begin] + _kept(node, docstring, literal.col_offset).encode() + source[end:]
    return source.decode(errors="replace")


def _kept(node: _Definition, docstring: str, indent: int) -> str:
    """What stands in the docstring's place: its later paragraphs, or nothing, or `pass` in a body left empty."""
    _, _, rest = docstring.partition("\n\n")
    if rest.strip():
        return textwrap.indent(f'"""{rest.strip()}\n"""', " " * indent).lstrip()
    return "" if len(node.body) > 1 else "pass"


def _normalised(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
