"""The shapes rows come in, and how each becomes texts of which some are learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpo_service.errors import DataError
from hpo_service.training.data.source import RawRow

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

# The names that ShareGPT exports and the tools around them use, and what chat templates call them.
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
# What the column `labels` of a tokenised row says of a token that is not learned, as transformers does.
NOT_LEARNED = -100


@dataclass(frozen=True)
class Example:
    """A row understood: a completion after a prompt that is not learned, a conversation, or token ids.

    Without `messages`, `completion` is learned and `prompt` is not; plain text has an empty prompt. A row that came
    as `ids` may say in `labels` which of them are learned. `group` keeps rows in one part of the split.
    """

    origin: str
    prompt: str = ""
    completion: str = ""
    messages: tuple[dict[str, str], ...] = ()
    ids: Sequence[int] = ()
    labels: Sequence[int] = ()
    group: str | None = None

    @property
    def content(self) -> str:
        """All the text of the row, by which it is recognised again."""
        if self.ids:
            # a letter before each, so that ids stay apart where spacing does not count
            return "".join(f"t{token}" for token in self.ids)
        return "\x1f".join([self.prompt, self.completion, *(f"{m['role']}\x1e{m['content']}" for m in self.messages)])


@dataclass(frozen=True)
class Format:
    """A shape of rows.

    Attributes:
        columns: those that mark it.
        read: how a row becomes texts.
        written: its columns, for people.
        learned: what is learned of a row, for people.
    """

    columns: tuple[str, ...]
    read: Callable[[RawRow], Example]
    written: str
    learned: str


def read_examples(rows: list[RawRow], name: str = "auto", group: str | None = None) -> tuple[str, list[Example]]:
    """Understand rows in the named format, or the one that their columns show; return its name and the examples.

    Args:
        rows: at least one.
        name: of the format; `auto` looks at the columns of the first row.
        group: the column that names each row's group, if there are groups.

    Raises:
        DataError: no format fits, or a row does not fit; the message names the row and the column.
    """
    chosen = detect_format(rows[0].fields, rows[0].origin) if name == "auto" else name
    read = FORMATS[chosen].read
    if group is None:
        return chosen, [read(row) for row in rows]
    return chosen, [replace(read(row), group=_group(row, group)) for row in rows]


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


def _group(row: RawRow, column: str) -> str:
    value = row.fields.get(column)
    if not isinstance(value, str | int | float) or value == "":
        state = "is missing" if column not in row.fields else f"must be text or a number, not {_kind(value)}"
        raise DataError(f"{row.origin}: column {column!r}, which data.group names, {state}")
    return str(value)


def _prompt_completion(row: RawRow) -> Example:
    return Example(row.origin, _text(row, "prompt"), _filled(row, "completion"))


def _alpaca(row: RawRow) -> Example:
    instruction, context = _text(row, "instruction"), _text(row, "input", default="")
    template = ALPACA_WITH_INPUT if context else ALPACA
    return Example(row.origin, template.format(instruction=instruction, input=context), _filled(row, "output"))


def _plain_text(row: RawRow) -> Example:
    return Example(row.origin, completion=_filled(row, "text"))


def _messages(row: RawRow) -> Example:
    return _conversation(row, "messages", ("role", "content"))


def _sharegpt(row: RawRow) -> Example:
    return _conversation(row, "conversations", ("from", "value"))


def _conversation(row: RawRow, column: str, keys: tuple[str, str]) -> Example:
    turns = row.fields.get(column)
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{row.origin}: column {column!r} must be a list of turns, not {_kind(turns)}")
    messages = tuple(
        _turn(row, f"column {column!r}, turn {number}", turn, keys) for number, turn in enumerate(turns, 1)
    )
    if not any(message["role"] == "assistant" for message in messages):
        raise DataError(f"{row.origin}: column {column!r} has no turn of the assistant, so there is nothing to learn")
    return Example(row.origin, messages=messages)


def _turn(row: RawRow, place: str, turn: Any, keys: tuple[str, str]) -> dict[str, str]:
    role, content = (turn.get(key) for key in keys) if isinstance(turn, dict) else (None, None)
    if not isinstance(role, str) or not isinstance(content, str):
        raise DataError(f"{row.origin}: {place} needs a {keys[0]} and a {keys[1]}, both text")
    if keys[0] == "role":
        return {"role": role, "content": content}
    if role not in SHAREGPT_ROLES:
        raise DataError(f"{row.origin}: {place} is from {role!r}; those known are {', '.join(SHAREGPT_ROLES)}")
    return {"role": SHAREGPT_ROLES[role], "content": content}


def _tokenised(row: RawRow) -> Example:
    ids = _whole_numbers(row, "input_ids")
    if not ids:
        raise DataError(f"{row.origin}: column 'input_ids' is empty, so there is nothing to learn")
    if row.fields.get("labels") is None:
        return Example(row.origin, ids=ids)
    labels = _whole_numbers(row, "labels")
    if len(labels) != len(ids):
        raise DataError(f"{row.origin}: column 'labels' has {len(labels)} numbers for {len(ids)} in 'input_ids'")
    for place, (token, label) in enumerate(zip(ids, labels, strict=True), start=1):
        if label not in (token, NOT_LEARNED):
            raise DataError(
                f"{row.origin}: column 'labels', number {place} is {label}; it must be {NOT_LEARNED} or the token "
                f"there, {token}"
            )
    return Example(row.origin, ids=ids, labels=labels)


def _whole_numbers(row: RawRow, column: str) -> list[int]:
    numbers = row.fields.get(column)
    if not isinstance(numbers, list):
        raise DataError(f"{row.origin}: column {column!r} must be a list of whole numbers, not {_kind(numbers)}")
    for place, number in enumerate(numbers, start=1):
        if type(number) is not int:
            raise DataError(
                f"{row.origin}: column {column!r}, number {place} must be a whole number, not {number!r:.40}"
            )
    return numbers


def _filled(row: RawRow, column: str) -> str:
    text = _text(row, column)
    if not text.strip():
        raise DataError(f"{row.origin}: column {column!r} is empty, so there is nothing to learn")
    return text


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


FORMATS: dict[str, Format] = {
    "messages": Format(
        ("messages",),
        _messages,
        "`messages`: turns of `role` and `content`",
        "what the assistant says, rendered by the model's chat template",
    ),
    "sharegpt": Format(
        ("conversations",),
        _sharegpt,
        "`conversations`: turns of `from` and `value`",
        "the same; `human` is the user, `gpt` the assistant",
    ),
    "tokenised": Format(
        ("input_ids",),
        _tokenised,
        "`input_ids`, optional `labels` (-100 is not learned)",
        "what `labels` say, else all",
    ),
    "prompt-completion": Format(
        ("prompt", "completion"), _prompt_completion, "`prompt`, `completion`", "the completion and its end"
    ),
    "alpaca": Format(
        ("instruction", "output"),
        _alpaca,
        "`instruction`, `output`, optional `input`",
        "the output and its end, after Stanford's prompt",
    ),
    "text": Format(("text",), _plain_text, "`text`", "all of it"),
}
"""Known formats by name, in the order in which they are looked for; `docs/data.md` and the study file name the same."""
