"""A YAML text as plain data in which every key knows its line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hpo_service.errors import StudyFileError

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead from the top of a document to a value."""

_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + kind for kind in ("map", "seq", "str", "null", "bool", "int", "float", "timestamp")}
_MERGE = _TAG + "merge"
_MOST_NODES = 50_000  # far above any study; keeps aliases of aliases from filling the memory
_DEEPEST = 50
_MOST_BRACKETS = 100  # open at once, before the parser is asked: it takes seconds over a thousand
_TOO_DEEP = "is nested too deeply for a study file"
_LONGEST_KEY = 60
_WHOLE_IN_EXPONENT_FORM = re.compile(r"[-+]?[0-9]{1,15}[eE]\+?(0?[0-9]|1[0-5])")

_PLAIN_WORDS: tuple[tuple[str, str], ...] = (
    (r"end of stream|stream end", "a bracket or quote that opens here is never closed; close it"),
    (r"character '\\t'", "a tab stands where YAML allows only spaces; indent with spaces"),
    (r"mapping values are not allowed", "a key cannot start here; check the indentation, or quote the text"),
    (r"expected ',' or", "something in brackets misses a comma or its closing bracket; add it"),
    (r"cannot start any token", "text cannot start with this character; put it in quotes"),
    (r"another document", "a second document starts here; a study file is one document, drop the `---`"),
    (r"undefined alias", "this alias has no anchor before it; text that starts with * needs quotes"),
    (r"could not find expected ':'", "a key without a `:`; write `key: value`"),
    (r"expected <block end>", "the indentation does not fit the lines above; align it with its neighbours"),
)
"""The parser's words and what a person has to do about it; anything else is passed on as the parser says it."""


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong, or worth a warning, at a place in the file."""

    path: KeyPath
    line: int
    message: str

    @property
    def key(self) -> str:
        """The path as people write it: `space.parameters.lora_rank.choices[2]`."""
        return dotted(self.path)

    def __str__(self) -> str:
        """Give line, key and message, as they follow the file's name."""
        return f"{self.line}: {self.key}: {self.message}" if self.path else f"{self.line}: {self.message}"


@dataclass(frozen=True)
class Document:
    """A parsed file: its data, and the line (from 1) of every key and list item."""

    file: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def complaint(self, path: KeyPath, message: str) -> Complaint:
        """Place a message at a path; of a key that is missing, the line is that of the section it belongs to."""
        known = next(path[:end] for end in range(len(path), -1, -1) if path[:end] in self.lines)
        return Complaint(path, self.lines[known], message)


def dotted(path: KeyPath) -> str:
    """Write a path as `a.b[0].c`; a key that would not print as it is appears in quotes."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_plain(part)}" for part in path).removeprefix(".")


def _plain(key: str) -> str:
    return (
        key if key.isprintable() and key.strip() == key != "" and len(key) <= _LONGEST_KEY else repr(key[:_LONGEST_KEY])
    )


def refuse(file: str, complaints: Iterable[Complaint]) -> StudyFileError:
    """Build the one-line error for a file: the first complaint by line, and how many more there are."""
    first, *others = sorted(complaints, key=lambda complaint: complaint.line)
    more = f" (and {len(others)} more)" if others else ""
    one_line = "".join(character if character.isprintable() else " " for character in f"{first}{more}")
    return StudyFileError(f"{file}:{one_line}", file=file, line=first.line, key=first.key)


def parse_document(text: str, file: str) -> Document:
    """Read YAML 1.2 (5e-4 is a number, yes and off are text) whose top is a mapping.

    Raises:
        StudyFileError: the text is not YAML, not one mapping, or has a key twice.
    """
    root = _compose(text, file)
    if root is None or root.tag == _TAG + "null":
        raise refuse(file, [Complaint((), 1, "the file is empty; start with `name:`, `model:` and `data:`")])
    if not isinstance(root, MappingNode):
        what = "a list" if isinstance(root, SequenceNode) else "text"
        message = f"must be a mapping of keys such as name, model and data, not {what}"
        raise refuse(file, [Complaint((), _line(root), message)])
    reader = _Reader()
    reader.lines[()] = _line(root)
    data = reader.mapping(root, ())
    if reader.wrong:
        raise refuse(file, reader.wrong)
    return Document(file, data, reader.lines)


def _compose(text: str, file: str) -> Node | None:
    if _open_brackets(text) > _MOST_BRACKETS:
        raise refuse(file, [Complaint((), 1, _TOO_DEEP)])
    try:
        root: Node | None = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        raise refuse(file, [_not_yaml(error)]) from None
    except RecursionError:
        raise refuse(file, [Complaint((), 1, _TOO_DEEP)]) from None
    except YAMLError as error:  # a character that YAML does not allow; it has a position instead of a mark
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        reason = "not YAML: an invisible control character stands in this line; retype the line"
        raise refuse(file, [Complaint((), line, reason)]) from None
    return root


def _open_brackets(text: str) -> int:
    """How many brackets are open at once at most, those in quotes and comments among them."""
    depth = deepest = 0
    for bracket in re.findall(r"[][{}]", text):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _not_yaml(error: MarkedYAMLError) -> Complaint:
    problem = " ".join(str(error.problem or error.context).split())
    plain = next((words for pattern, words in _PLAIN_WORDS if re.search(pattern, problem)), problem)
    unclosed = "never closed" in plain
    mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
    return Complaint((), mark.line + 1 if mark else 1, f"not YAML: {plain}")


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


class _Reader:
    """Turns nodes into data, noting the line of every key and item, and what a study file does not allow."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.wrong: list[Complaint] = []
        self._open: list[int] = []
        self._seen = 0

    def mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        """Read a mapping; keys of its own win over merged ones."""
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                for key, value in self._merged(value_node, path):
                    data.setdefault(key, value)
        own: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            key = str(key_node.value) if isinstance(key_node, ScalarNode) else "?"
            place = (*path, key)
            if key in own:
                message = f"stands twice, first in line {self.lines[place]}; drop one"
                self.wrong.append(Complaint(place, _line(key_node), message))
                continue
            own.add(key)
            self.lines[place] = _line(key_node)
            data[key] = self.value(value_node, place)
        return data

    def _merged(self, node: Node, path: KeyPath) -> Iterator[tuple[str, Any]]:
        for source in node.value if isinstance(node, SequenceNode) else [node]:
            merged = self.value(source, path)
            if isinstance(merged, dict):
                yield from merged.items()
            else:
                self.wrong.append(Complaint((*path, "<<"), _line(node), "can only merge a mapping"))

    def value(self, node: Node, path: KeyPath) -> Any:
        """Read any node."""
        self._seen += 1
        if self._seen > _MOST_NODES or len(self._open) > _DEEPEST or id(node) in self._open:
            if not self.wrong:
                reason = "is endless or far too large for a study"
                self.wrong.append(Complaint(path[:4], _line(node), reason))
            return None
        self._open.append(id(node))
        read = self._read(node, path)
        self._open.pop()
        return read

    def _read(self, node: Node, path: KeyPath) -> Any:
        if node.tag not in _TAGS:
            self.wrong.append(Complaint(path, _line(node), f"the tag {node.tag} is not for study files; drop it"))
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self.lines[*path, index] = _line(item)
                items.append(self.value(item, (*path, index)))
            return items
        return self._scalar(node, path)

    def _scalar(self, node: Node, path: KeyPath) -> bool | int | float | str | None:
        kind = str(node.tag).removeprefix(_TAG)
        text = str(node.value)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float"):
            try:
                return _number(text, whole=kind == "int")
            except ValueError:
                self.wrong.append(Complaint(path, _line(node), f"{text[:40]} cannot be read as a number"))
        return text


def _number(text: str, *, whole: bool) -> int | float:
    plain = text.replace("_", "").lower()
    if whole:
        return int(plain, 0 if plain.lstrip("+-")[:2] in ("0x", "0o", "0b") else 10)
    if _WHOLE_IN_EXPONENT_FORM.fullmatch(plain):  # people write 1e4 rows
        return int(float(plain))
    return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
