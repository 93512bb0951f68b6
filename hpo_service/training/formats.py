"""The shapes rows come in, and how each becomes texts of which some are learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hpo_service.errors import DataError
from hpo_service.training.source import RawRow

# The prompt of Stanford's Alpaca, on which most instruction data of this shape was trained.
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass(frozen=True)
class Example:
    """A row understood: a completion after a prompt that is not learned, or a conversation.

    Without `messages`, `completion` is learned and `prompt` is not; plain text has an empty prompt.
    """

    origin: str
    prompt: str = ""
    completion: str = ""
    messages: tuple[dict[str, str], ...] = ()

    @property
    def content(self) -> str:
        """All the text of the row, by which it is recognised again."""
        return "\x1f".join([self.prompt, self.completion, *(f"{m['role']}\x1e{m['content']}" for m in self.messages)])


@dataclass(frozen=True)
class Format:
    """A shape of rows: the columns that mark it and how a row is read."""

    columns: tuple[str, ...]
    read: Callable[[RawRow], Example]


def read_examples(rows: list[RawRow], name: str = "auto") -> tuple[str, list[Example]]:
    """Understand rows in the named format, or the one that their columns show; return its name and the examples.

    Raises:
        DataError: no format fits, or a row does not fit; the message names the row and the column.
    """
    chosen = detect_format(rows[0].fields, rows[0].origin) if name == "auto" else name
    read = FORMATS[chosen].read
    return chosen, [read(row) for row in rows]


def detect_format(columns: Mapping[str, Any], origin: str) -> str:
    """Return the name of the first format whose marking columns are all there."""
    for name, shape in FORMATS.items():
        if all(column in columns for column in shape.columns):
            return name
    expected = "; ".join(f"{name} ({', '.join(shape.columns)})" for name, shape in FORMATS.items())
    raise DataError(f"{origin}: the columns {', '.join(columns) or '(none)'} fit no known format: {expected}")


def _text(row: RawRow, column: str, default: str | None = None) -> str:
    value = row.fields.get(column, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        state = "is missing" if column not in row.fields else f"must be text, not {_kind(value)}"
        raise DataError(f"{row.origin}: column {column!r} {state}")
    return value


def _prompt_completion(row: RawRow) -> Example:
    return Example(row.origin, _text(row, "prompt"), _filled(row, "completion"))


def _alpaca(row: RawRow) -> Example:
    instruction, context = _text(row, "instruction"), _text(row, "input", default="")
    template = ALPACA_WITH_INPUT if context else ALPACA
    return Example(row.origin, template.format(instruction=instruction, input=context), _filled(row, "output"))


def _plain_text(row: RawRow) -> Example:
    return Example(row.origin, completion=_filled(row, "text"))


def _messages(row: RawRow) -> Example:
    turns = row.fields.get("messages")
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{row.origin}: column 'messages' must be a list of turns, not {_kind(turns)}")
    messages = tuple(_turn(row, number, turn) for number, turn in enumerate(turns, start=1))
    if not any(message["role"] == "assistant" for message in messages):
        raise DataError(f"{row.origin}: column 'messages' has no turn of the assistant, so there is nothing to learn")
    return Example(row.origin, messages=messages)


def _turn(row: RawRow, number: int, turn: Any) -> dict[str, str]:
    role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
    if not isinstance(role, str) or not isinstance(content, str):
        raise DataError(f"{row.origin}: column 'messages', turn {number} needs a role and a content, both text")
    return {"role": role, "content": content}


def _filled(row: RawRow, column: str) -> str:
    text = _text(row, column)
    if not text.strip():
        raise DataError(f"{row.origin}: column {column!r} is empty, so there is nothing to learn")
    return text


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


FORMATS: dict[str, Format] = {
    "messages": Format(("messages",), _messages),
    "prompt-completion": Format(("prompt", "completion"), _prompt_completion),
    "alpaca": Format(("instruction", "output"), _alpaca),
    "text": Format(("text",), _plain_text),
}
"""Known formats by name, in the order in which they are looked for."""
