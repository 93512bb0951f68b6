"""The shapes rows come in, and how each becomes texts of which some are learned."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpo_service.errors import DataError
from hpo_service.training.data.conversation import (
    ASSISTANT,
    CALLERS,
    Message,
    content_of,
    is_marked_unlearned,
    message_of,
    tools_of,
)
from hpo_service.training.data.source import RawRow

# The prompt of Stanford's Alpaca, on which most instruction data of this shape was trained.
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
ALPACA_ROUND = "### Instruction:\n{instruction}\n\n### Response:\n{response}"
ALPACA_ROUND_WITH_INPUT = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"

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
    **dict.fromkeys(CALLERS, "assistant"),
}
# What different trainers call the weight of a whole row in the loss.
WEIGHTS = ("weight", "loss_weight", "sample_weight")
# Columns of tokenised rows that say with 1 and 0 which tokens are learned.
MASKS = ("completion_mask", "assistant_masks", "assistant_mask", "loss_mask")
# What the column `labels` of a tokenised row says of a token that is not learned, as transformers does.
NOT_LEARNED = -100


@dataclass(frozen=True)
class Example:
    """A row understood: a completion after a prompt that is not learned, a conversation, or token ids.

    Without `messages`, `completion` is learned and `prompt` is not; plain text has an empty prompt. Of `messages` the
    assistant's are learned, but for those whose places are `unlearned`; it may call `tools`. A row that came as `ids`
    may say in `labels` which of them are learned; `padding` is how many ids it had beside them. `group` keeps rows in
    one part of the split.
    """

    origin: str
    prompt: str = ""
    completion: str = ""
    messages: tuple[Message, ...] = ()
    unlearned: frozenset[int] = frozenset()
    tools: tuple[dict[str, Any], ...] = ()
    ids: Sequence[int] = ()
    labels: Sequence[int] = ()
    padding: int = 0
    group: str | None = None

    @property
    def content(self) -> str:
        """All the text of the row, by which it is recognised again."""
        if self.ids:
            # a letter before each, so that ids stay apart where spacing does not count
            return "".join(f"t{token}" for token in self.ids)
        tools = [json.dumps(self.tools, sort_keys=True)] if self.tools else []
        return "\x1f".join([self.prompt, self.completion, *map(content_of, self.messages), *tools])


@dataclass(frozen=True)
class Format:
    """A shape of rows.

    Attributes:
        columns: those that mark it.
        read: how a row becomes texts.
        written: its columns, for people.
        learned: what is learned of a row, for people.
        also: other columns that are read.
    """

    columns: tuple[str, ...]
    read: Callable[[RawRow], Example]
    written: str
    learned: str
    also: tuple[str, ...] = ()


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


def counts(row: RawRow) -> bool:
    """Whether a row is used: its weight is 1 or not given, and not 0.

    Raises:
        DataError: its weight is another number.
    """
    return all(_weight(row, column) for column in WEIGHTS)


def unused_columns(rows: list[RawRow], name: str, group: str | None = None) -> dict[str, int]:
    """How many rows hold something in each column that the named format does not read, by column."""
    used = {*FORMATS[name].columns, *FORMATS[name].also, *WEIGHTS, group}
    filled = Counter(column for row in rows for column, value in row.fields.items() if value not in (None, "", [], {}))
    return {column: rows for column, rows in sorted(filled.items()) if column not in used}


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


def _weight(row: RawRow, column: str) -> float:
    value = row.fields.get(column)
    try:
        weight = 1 if value is None else float(value)
    except (TypeError, ValueError):
        return 1  # no number, so another matter
    if weight not in (0, 1):
        raise DataError(
            f"{row.origin}: column {column!r} is {value}; a row counts (1) or is left out (0), and nothing between: "
            "change it, or rename the column if it means something else"
        )
    return weight


def _group(row: RawRow, column: str) -> str:
    value = row.fields.get(column)
    if not isinstance(value, str | int | float) or value == "":
        state = "is missing" if column not in row.fields else f"must be text or a number, not {_kind(value)}"
        raise DataError(f"{row.origin}: column {column!r}, which data.group names, {state}")
    return str(value)


def _prompt_completion(row: RawRow) -> Example:
    return Example(row.origin, _text(row, "prompt"), _filled(row, "completion"))


def _alpaca(row: RawRow) -> Example:
    """Stanford's prompt; earlier rounds stand before it in the same words, and a `system` text is its opening."""
    instruction, context = _text(row, "instruction"), _text(row, "input", default="")
    opening = _text(row, "system", default="") or (ALPACA_WITH_INPUT if context else ALPACA)
    rounds = [ALPACA_ROUND.format(instruction=asked, response=said) for asked, said in _history(row)]
    last = ALPACA_ROUND_WITH_INPUT if context else ALPACA_ROUND
    rounds.append(last.format(instruction=instruction, input=context, response=""))
    return Example(row.origin, "\n\n".join([opening, *rounds]), _filled(row, "output"))


def _history(row: RawRow) -> list[list[str]]:
    rounds = row.fields.get("history") or []
    if not isinstance(rounds, list) or not all(_is_round(each) for each in rounds):
        raise DataError(f"{row.origin}: column 'history' must be a list of pairs, what was asked and what was said")
    return rounds


def _is_round(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(each, str) for each in pair)


def _plain_text(row: RawRow) -> Example:
    return Example(row.origin, completion=_filled(row, "text"))


def _messages(row: RawRow) -> Example:
    return _conversation(row, "messages", ("role", "content"))


def _sharegpt(row: RawRow) -> Example:
    return _conversation(row, "conversations", ("from", "value"), SHAREGPT_ROLES)


def _conversation(row: RawRow, column: str, keys: tuple[str, str], roles: Mapping[str, str] | None = None) -> Example:
    turns = row.fields.get(column)
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{row.origin}: column {column!r} must be a list of turns, not {_kind(turns)}")
    places = [f"{row.origin}: column {column!r}, turn {number}" for number in range(1, len(turns) + 1)]
    said = [message_of(turn, keys, roles, place) for turn, place in zip(turns, places, strict=True)]
    if not any(message["role"] == ASSISTANT for message in said):
        raise DataError(f"{row.origin}: column {column!r} has no turn of the assistant, so there is nothing to learn")
    before = _system_turn(row, said)
    marked = (is_marked_unlearned(turn, place) for turn, place in zip(turns, places, strict=True))
    unlearned = frozenset(place for place, is_marked in enumerate(marked, start=len(before)) if is_marked)
    tools = tools_of(row.fields["tools"], row.origin) if row.fields.get("tools") else []
    return Example(row.origin, messages=(*before, *said), unlearned=unlearned, tools=tuple(tools))


def _system_turn(row: RawRow, said: list[Message]) -> list[Message]:
    """The turn that the column `system` stands for, unless the conversation opens with it."""
    text = _text(row, "system", default="")
    if not text or (said[0]["role"] == "system" and said[0]["content"] == text):
        return []
    if said[0]["role"] == "system":
        raise DataError(f"{row.origin}: column 'system' and the first turn name different system texts: keep one")
    return [{"role": "system", "content": text}]


def _tokenised(row: RawRow) -> Example:
    ids = _whole_numbers(row, "input_ids")
    if not ids:
        raise DataError(f"{row.origin}: column 'input_ids' is empty, so there is nothing to learn")
    begin, end = _attended(row, len(ids))
    labels = _labels(row, ids, range(begin, end))
    return Example(row.origin, ids=ids[begin:end], labels=labels[begin:end], padding=len(ids) - (end - begin))


def _attended(row: RawRow, length: int) -> tuple[int, int]:
    """Where the tokens that the column `attention_mask` does not call padding begin and end."""
    mask = _mask(row, "attention_mask", length) or [1] * length
    if 1 not in mask:
        raise DataError(f"{row.origin}: column 'attention_mask' hides every token, so there is nothing to learn")
    begin, end = mask.index(1), length - mask[::-1].index(1)
    if 0 in mask[begin:end]:
        hidden = mask.index(0, begin) + 1
        raise DataError(
            f"{row.origin}: column 'attention_mask' hides token {hidden} between others; only padding may be hidden"
        )
    return begin, end


def _labels(row: RawRow, ids: list[int], places: range) -> Sequence[int]:
    """What `labels` and the masks beside it let through, as labels; none where there are neither."""
    labels = _given_labels(row, ids, places)
    for column in MASKS:
        mask = _mask(row, column, len(ids))
        if mask is not None:
            labels = [label if shown else NOT_LEARNED for label, shown in zip(labels or ids, mask, strict=True)]
    return labels


def _given_labels(row: RawRow, ids: list[int], places: range) -> Sequence[int]:
    if row.fields.get("labels") is None:
        return ()
    labels = _whole_numbers(row, "labels")
    if len(labels) != len(ids):
        raise DataError(f"{row.origin}: column 'labels' has {len(labels)} numbers for {len(ids)} in 'input_ids'")
    for place in places:
        if labels[place] not in (ids[place], NOT_LEARNED):
            raise DataError(
                f"{row.origin}: column 'labels', number {place + 1} is {labels[place]}; it must be {NOT_LEARNED} or "
                f"the token there, {ids[place]}"
            )
    return labels


def _mask(row: RawRow, column: str, length: int) -> list[int] | None:
    if row.fields.get(column) is None:
        return None
    mask = row.fields[column]
    if not isinstance(mask, list) or len(mask) != length or any(each not in (0, 1) for each in mask):
        raise DataError(f"{row.origin}: column {column!r} must have a 1 or 0 for each of {length} in 'input_ids'")
    return [int(each) for each in mask]


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
        "`messages`: turns of `role` and `content`; optional `system`, `tools`",
        "what the assistant says, rendered by the model's chat template",
        also=("system", "tools"),
    ),
    "sharegpt": Format(
        ("conversations",),
        _sharegpt,
        "`conversations`: turns of `from` and `value`; optional `system`, `tools`",
        "the same; `human` is the user, `gpt` the assistant",
        also=("system", "tools"),
    ),
    "tokenised": Format(
        ("input_ids",),
        _tokenised,
        "`input_ids`, optional `labels` (-100 is not learned), `attention_mask`, masks",
        "what `labels` and masks let through, else all",
        also=("labels", "attention_mask", *MASKS),
    ),
    "prompt-completion": Format(
        ("prompt", "completion"), _prompt_completion, "`prompt`, `completion`", "the completion and its end"
    ),
    "alpaca": Format(
        ("instruction", "output"),
        _alpaca,
        "`instruction`, `output`, optional `input`, `system`, `history`",
        "the output and its end, after Stanford's prompt",
        also=("input", "system", "history"),
    ),
    "text": Format(("text",), _plain_text, "`text`", "all of it"),
}
"""Known formats by name, in the order in which they are looked for; `docs/data.md` and the study file name the same."""
