"""Prompts and completions as conversations: where they are turns, and where a chat model shall see them as turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hpo_service.errors import DataError
from hpo_service.training.data.conversation import ASSISTANT, Message, is_marked_unlearned, message_of, tools_of
from hpo_service.training.data.reading.example import Example
from hpo_service.training.data.reading.fields import filled, kind_of, text_of
from hpo_service.training.data.reading.source import RawRow

# Roles whose turn, where a conversation opens with it, is its system text.
SYSTEM_ROLES = ("system", "developer")


def is_conversational(row: RawRow) -> bool:
    """Whether the prompt or the completion of a row is turns instead of text."""
    return any(isinstance(row.fields.get(column), list) for column in ("prompt", "completion"))


def turns_of(
    row: RawRow, column: str, keys: tuple[str, str] = ("role", "content"), roles: Mapping[str, str] | None = None
) -> tuple[list[Message], list[int]]:
    """The turns in a column, and the places among them of those that say of themselves that they are not learned.

    Args:
        row: the row.
        column: where its turns are.
        keys: what formats call the role and the content of a turn; `data.columns` may call them otherwise.
        roles: what the row's roles are called by templates; None where they are called the same.

    Raises:
        DataError: it is no list of turns, or a turn cannot be used.
    """
    turns = row.fields.get(column)
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{row.origin}: column {row.called(column)} must be a list of turns, not {kind_of(turns)}")
    role, content = row.names.get("role", keys[0]), row.names.get("content", keys[1])
    places = [f"{row.origin}: column {row.called(column)}, turn {number}" for number in range(1, len(turns) + 1)]
    said = [message_of(turn, (role, content), roles, place) for turn, place in zip(turns, places, strict=True)]
    marks = [is_marked_unlearned(turn, place) for turn, place in zip(turns, places, strict=True)]
    return said, [place for place, is_marked in enumerate(marks) if is_marked]


def need_an_answer(row: RawRow, column: str, said: Iterable[Message]) -> None:
    """Refuse turns in which the assistant says nothing.

    Raises:
        DataError: there is no turn of the assistant.
    """
    if not any(message["role"] == ASSISTANT for message in said):
        called = row.called(column)
        raise DataError(f"{row.origin}: column {called} has no turn of the assistant, so there is nothing to learn")


def pair_as_chat(row: RawRow) -> Example:
    """A prompt and a completion, each text or turns, as one conversation of which the completion is learned.

    Raises:
        DataError: the completion is empty or has no turn of the assistant, or a turn cannot be used.
    """
    prompt, completion = (isinstance(row.fields.get(column), list) for column in ("prompt", "completion"))
    asked = turns_of(row, "prompt")[0] if prompt else [_turn("user", text_of(row, "prompt"))]
    said, unlearned = turns_of(row, "completion") if completion else ([_turn(ASSISTANT, filled(row, "completion"))], [])
    need_an_answer(row, "completion", said)
    before = [*system_turn(row, asked), *asked]
    marked = {*(p for p, turn in enumerate(before) if turn["role"] == ASSISTANT), *(len(before) + p for p in unlearned)}
    return Example(row.origin, messages=(*before, *said), unlearned=frozenset(marked), tools=tools_in(row))


def alpaca_as_chat(row: RawRow, history: Iterable[list[str]]) -> Example:
    """An instruction with its input as the user's turn, the output as the assistant's, behind earlier rounds.

    Raises:
        DataError: a column is missing or no text, or the output is empty.
    """
    instruction, context = text_of(row, "instruction"), text_of(row, "input", default="")
    before = system_turn(row, [])
    for asked, answered in history:
        before += [_turn("user", asked), _turn(ASSISTANT, answered)]
    asked_last = _turn("user", f"{instruction}\n\n{context}" if context else instruction)
    unlearned = frozenset(place for place, turn in enumerate(before) if turn["role"] == ASSISTANT)
    said = _turn(ASSISTANT, filled(row, "output"))
    return Example(row.origin, messages=(*before, asked_last, said), unlearned=unlearned, tools=tools_in(row))


def with_system(example: Example, system: str) -> Example:
    """The example with the study's system text in front, unless its conversation opens with one.

    Raises:
        DataError: the row has no prompt and no turns that it could stand before.
    """
    if example.messages:
        if example.messages[0]["role"] in SYSTEM_ROLES:
            return example
        moved = frozenset(place + 1 for place in example.unlearned)
        return replace(example, messages=(_turn("system", system), *example.messages), unlearned=moved)
    if example.ids or not example.prompt:
        raise DataError(f"{example.origin}: data.system has no place in a row without a prompt: drop it")
    return replace(example, prompt=f"{system}\n\n{example.prompt}")


def system_turn(row: RawRow, said: list[Message]) -> list[Message]:
    """The turn that the column `system` stands for, unless the conversation opens with it.

    Raises:
        DataError: the conversation opens with another one.
    """
    text = text_of(row, "system", default="")
    opens = said[0]["content"] if said and said[0]["role"] in SYSTEM_ROLES else None
    if not text or opens == text:
        return []
    if opens is not None:
        column = row.called("system")
        raise DataError(f"{row.origin}: column {column} and the first turn name different system texts: keep one")
    return [_turn("system", text)]


def tools_in(row: RawRow) -> tuple[dict[str, Any], ...]:
    """The tools that a row's conversation may call.

    Raises:
        DataError: its column `tools` holds something else.
    """
    return tuple(tools_of(row.fields["tools"], row.origin)) if row.fields.get("tools") else ()


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}
