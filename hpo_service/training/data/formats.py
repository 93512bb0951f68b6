"""The shapes rows come in, and how each becomes texts of which some are learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.errors import DataError
from hpo_service.training.data.chat import (
    alpaca_as_chat,
    is_conversational,
    need_an_answer,
    pair_as_chat,
    system_turn,
    tools_in,
    turns_of,
    with_system,
)
from hpo_service.training.data.conversation import CALLERS
from hpo_service.training.data.reading.columns import check_names
from hpo_service.training.data.reading.example import Example
from hpo_service.training.data.reading.fields import filled, kind_of, mask_of, text_of, whole_numbers
from hpo_service.training.data.reading.source import RawRow
from hpo_service.training.data.reading.weight import WEIGHTS, weight_of

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
# Columns of tokenised rows that say with 1 and 0 which tokens are learned.
MASKS = ("completion_mask", "assistant_masks", "assistant_mask", "loss_mask")
# What the column `labels` of a tokenised row says of a token that is not learned, as transformers does.
NOT_LEARNED = -100


@dataclass(frozen=True)
class Format:
    """A shape of rows.

    Attributes:
        columns: those that mark it.
        read: how a row becomes texts.
        written: its columns, for people.
        learned: what is learned of a row, for people.
        also: other columns that are read.
        as_chat: how a row becomes a conversation, where it is a prompt and what answers it.
    """

    columns: tuple[str, ...]
    read: Callable[[RawRow], Example]
    written: str
    learned: str
    also: tuple[str, ...] = ()
    as_chat: Callable[[RawRow], Example] | None = None


def read_examples(
    rows: list[RawRow],
    name: str = "auto",
    group: str | None = None,
    *,
    as_chat: bool = False,
    system: str | None = None,
    weight: str | None = None,
) -> tuple[str, list[Example]]:
    """Understand rows in the named format, or the one that their columns show; return its name and the examples.

    Args:
        rows: at least one.
        name: of the format; `auto` looks at the columns of the first row.
        group: the column that names each row's group, if there are groups.
        as_chat: whether prompts and completions become turns of a conversation.
        system: the system text of rows that have none.
        weight: the column that holds each row's weight in the loss, if rows have weights.

    Raises:
        DataError: no format fits, or a row does not fit; the message names the row and the column.
    """
    chosen = detect_format(rows[0].fields, rows[0].origin) if name == "auto" else name
    shape = FORMATS[chosen]
    if as_chat and shape.as_chat is None:
        pairs = ", ".join(name for name, each in FORMATS.items() if each.as_chat)
        raise DataError(f"{rows[0].origin}: data.as_chat is for rows of {pairs}, and these are {chosen}: drop it")
    read = shape.as_chat if as_chat and shape.as_chat else shape.read
    return chosen, [_understood(row, read, group, system, weight) for row in rows]


def _understood(
    row: RawRow, read: Callable[[RawRow], Example], group: str | None, system: str | None, weight: str | None
) -> Example:
    has_place_for_it = read is _alpaca
    if system and has_place_for_it and not row.fields.get("system"):
        row = replace(row, fields={**row.fields, "system": system})
    example = read(row)
    if system and not has_place_for_it and not ("system" in row.names and row.fields.get("system")):
        example = with_system(example, system)
    if weight is not None:
        example = replace(example, weight=weight_of(row, weight))
    return example if group is None else replace(example, group=_group(row, group))


def format_of(row: RawRow, found: RawRow, spec: DataSpec) -> str:
    """The format of a study's rows: as it says, or as the columns of its first row show.

    Args:
        row: the first, its columns called as formats call them.
        found: the same as it was read.
        spec: the study's data.

    Raises:
        DataError: no format fits, or the row lacks a column that the study names.
    """
    check_names(found, spec, {column for shape in FORMATS.values() for column in shape.columns})
    if spec.format != "auto":
        return spec.format
    return "prompt-completion" if spec.prompt_template else detect_format(row.fields, row.origin)


def examples_of(rows: list[RawRow], name: str, spec: DataSpec) -> list[Example]:
    """Rows of a study, their columns called as formats call them, in the format of this name; see `read_examples`."""
    return read_examples(rows, name, spec.group, as_chat=spec.as_chat, system=spec.system, weight=spec.weight)[1]


def read_beside(spec: DataSpec, examples: Sequence[Example]) -> set[str]:
    """Columns that rows are read with beside those of their format."""
    turns = {"system", "tools"} if any(example.messages for example in examples) else set()
    return turns | ({"system"} & spec.columns.keys()) | ({spec.weight} if spec.weight else set())


def unused_columns(
    rows: Iterable[RawRow], name: str, group: str | None = None, beside: Collection[str] = ()
) -> dict[str, int]:
    """How many rows hold something in each column that the named format does not read, by column.

    Columns that are read `beside` the format's are not among them.
    """
    used = {*FORMATS[name].columns, *FORMATS[name].also, *WEIGHTS, group, *beside}
    filled = Counter(column for row in rows for column, value in row.fields.items() if value not in (None, "", [], {}))
    return {column: rows for column, rows in sorted(filled.items()) if column not in used}


def detect_format(columns: Mapping[str, Any], origin: str) -> str:
    """Return the name of the first format whose marking columns are all there."""
    for name, shape in FORMATS.items():
        if all(column in columns for column in shape.columns):
            return name
    expected = "; ".join(f"{name} ({', '.join(shape.columns)})" for name, shape in FORMATS.items())
    named = [name for name, value in columns.items() if isinstance(value, str)]
    remedy = ""
    if len(named) > 1:
        remedy = f"; name them by data.columns, as in {{prompt: {named[0]}, completion: {named[-1]}}}"
    raise DataError(f"{origin}: the columns {', '.join(columns) or '(none)'} fit no known format: {expected}{remedy}")


def _group(row: RawRow, column: str) -> str:
    value = row.fields.get(column)
    if not isinstance(value, str | int | float) or value == "":
        state = "is missing" if column not in row.fields else f"must be text or a number, not {kind_of(value)}"
        raise DataError(f"{row.origin}: column {column!r}, which data.group names, {state}")
    return str(value)


def _prompt_completion(row: RawRow) -> Example:
    if is_conversational(row):
        return pair_as_chat(row)
    prompt = text_of(row, "prompt")
    # read where data.columns names it: rows that have one unasked were always learned without it, and are warned of
    system = text_of(row, "system", default="") if "system" in row.names else ""
    return Example(row.origin, f"{system}\n\n{prompt}" if system else prompt, filled(row, "completion"))


def _alpaca(row: RawRow) -> Example:
    """Stanford's prompt; earlier rounds stand before it in the same words, and a `system` text is its opening."""
    instruction, context = text_of(row, "instruction"), text_of(row, "input", default="")
    opening = text_of(row, "system", default="") or (ALPACA_WITH_INPUT if context else ALPACA)
    rounds = [ALPACA_ROUND.format(instruction=asked, response=said) for asked, said in _history(row)]
    last = ALPACA_ROUND_WITH_INPUT if context else ALPACA_ROUND
    rounds.append(last.format(instruction=instruction, input=context, response=""))
    return Example(row.origin, "\n\n".join([opening, *rounds]), filled(row, "output"))


def _history(row: RawRow) -> list[list[str]]:
    rounds = row.fields.get("history") or []
    if not isinstance(rounds, list) or not all(_is_round(each) for each in rounds):
        raise DataError(
            f"{row.origin}: column {row.called('history')} must be a list of pairs, what was asked and what was said"
        )
    return rounds


def _is_round(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(each, str) for each in pair)


def _plain_text(row: RawRow) -> Example:
    return Example(row.origin, completion=filled(row, "text"))


def _messages(row: RawRow) -> Example:
    return _conversation(row, "messages", ("role", "content"))


def _sharegpt(row: RawRow) -> Example:
    return _conversation(row, "conversations", ("from", "value"), SHAREGPT_ROLES)


def _conversation(row: RawRow, column: str, keys: tuple[str, str], roles: Mapping[str, str] | None = None) -> Example:
    said, marked = turns_of(row, column, keys, roles)
    need_an_answer(row, column, said)
    before = system_turn(row, said)
    unlearned = frozenset(place + len(before) for place in marked)
    return Example(row.origin, messages=(*before, *said), unlearned=unlearned, tools=tools_in(row))


def _tokenised(row: RawRow) -> Example:
    ids = whole_numbers(row, "input_ids")
    if not ids:
        raise DataError(f"{row.origin}: column 'input_ids' is empty, so there is nothing to learn")
    begin, end = _attended(row, len(ids))
    labels = _labels(row, ids, range(begin, end))
    return Example(row.origin, ids=ids[begin:end], labels=labels[begin:end], padding=len(ids) - (end - begin))


def _attended(row: RawRow, length: int) -> tuple[int, int]:
    """Where the tokens that the column `attention_mask` does not call padding begin and end."""
    mask = mask_of(row, "attention_mask", length) or [1] * length
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
        mask = mask_of(row, column, len(ids))
        if mask is not None:
            labels = [label if shown else NOT_LEARNED for label, shown in zip(labels or ids, mask, strict=True)]
    return labels


def _given_labels(row: RawRow, ids: list[int], places: range) -> Sequence[int]:
    if row.fields.get("labels") is None:
        return ()
    labels = whole_numbers(row, "labels")
    if len(labels) != len(ids):
        raise DataError(f"{row.origin}: column 'labels' has {len(labels)} numbers for {len(ids)} in 'input_ids'")
    for place in places:
        if labels[place] not in (ids[place], NOT_LEARNED):
            raise DataError(
                f"{row.origin}: column 'labels', number {place + 1} is {labels[place]}; it must be {NOT_LEARNED} or "
                f"the token there, {ids[place]}"
            )
    return labels


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
        ("prompt", "completion"),
        _prompt_completion,
        "`prompt`, `completion`: both text, or turns of `role` and `content`",
        "the completion and its end",
        as_chat=pair_as_chat,
    ),
    "alpaca": Format(
        ("instruction", "output"),
        _alpaca,
        "`instruction`, `output`, optional `input`, `system`, `history`",
        "the output and its end, after Stanford's prompt",
        also=("input", "system", "history"),
        as_chat=lambda row: alpaca_as_chat(row, _history(row)),
    ),
    "text": Format(("text",), _plain_text, "`text`", "all of it"),
}
"""Known formats by name, in the order in which they are looked for; `docs/data.md` and the study file name the same."""
