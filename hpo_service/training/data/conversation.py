"""Turns of a conversation as chat templates want them, and what rows say of them beside role and text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hpo_service.errors import DataError

Message = dict[str, Any]

# What different trainers call the mark on a turn that says whether it is learned: 1 or true, 0 or false.
LEARNED_MARKS = ("weight", "loss_weight", "loss_scale", "loss_mask", "loss", "train", "training", "trainable")
ASSISTANT = "assistant"
# What a turn may hold beside its text, so that it may have none.
CALLS = "tool_calls"
# Roles of ShareGPT whose text is a call and not what the assistant says.
CALLERS = ("function_call",)
# Thoughts of the assistant under the names that templates and exports give them.
REASONING = ("reasoning_content", "reasoning", "thinking")


def message_of(turn: Any, keys: tuple[str, str], roles: Mapping[str, str] | None, place: str) -> Message:
    """A turn as templates want it: `role`, `content` as one text, and whatever else the turn holds.

    Args:
        turn: as the row has it.
        keys: what the row calls role and content.
        roles: what the row's roles are called by templates; None where they are called the same.
        place: row, column and number of the turn, for messages.

    Raises:
        DataError: role or content are missing, or are something that cannot be shown as text.
    """
    role = turn.get(keys[0]) if isinstance(turn, dict) else None
    if not isinstance(role, str):
        raise DataError(f"{place} needs a {keys[0]} and a {keys[1]}, both text")
    calls = _calls(turn, role, keys[1], place)
    content = "" if role in CALLERS else _text(turn.get(keys[1]), place)
    if content is None and not calls:
        raise DataError(f"{place} needs a {keys[0]} and a {keys[1]}, both text")
    if roles is not None and role not in roles:
        raise DataError(f"{place} is from {role!r}; those known are {', '.join(roles)}")
    left_out = {*keys, *LEARNED_MARKS, CALLS, "function_call"}
    others = {key: value for key, value in turn.items() if key not in left_out and value is not None}
    message = {"role": roles[role] if roles else role, "content": content or "", **others}
    return {**message, CALLS: calls} if calls else message


def is_marked_unlearned(turn: Mapping[str, Any], place: str) -> bool:
    """Whether a turn says of itself that it is not to be learned.

    Raises:
        DataError: a mark is neither 0 nor 1.
    """
    marks = {name: turn[name] for name in LEARNED_MARKS if turn.get(name) is not None}
    for name, value in marks.items():
        if value not in (0, 1):
            raise DataError(
                f"{place} has the {name} {value!r:.40}; a turn is learned (1) or not (0), and nothing between"
            )
    return any(not value for value in marks.values())


def tools_of(value: Any, place: str) -> list[dict[str, Any]]:
    """The tools that a conversation may call: a list of schemas, or such a list as JSON text.

    Raises:
        DataError: it is something else.
    """
    tools = _parsed(value)
    if not isinstance(tools, list) or not all(isinstance(each, dict) for each in tools):
        raise DataError(f"{place}, column 'tools' must be a list of JSON schemas")
    return tools


def content_of(message: Message) -> str:
    """All that a message says, by which its row is recognised again."""
    beside = {key: message[key] for key in (CALLS, *REASONING) if key in message}
    more = "\x1e" + json.dumps(beside, sort_keys=True) if beside else ""
    return f"{message['role']}\x1e{message['content']}{more}"


def _calls(turn: Mapping[str, Any], role: str, text: str, place: str) -> list[dict[str, Any]]:
    if role in CALLERS:
        found = _parsed(turn.get(text))
        found = found if isinstance(found, list) else [found]
    else:
        old = turn.get("function_call")
        found = turn.get(CALLS) or ([old] if old else [])
    if not isinstance(found, list) or not all(isinstance(call, dict) for call in found):
        raise DataError(f"{place} calls no function: it needs a name and arguments, or a list of such calls")
    return [_call(call, place) for call in found]


def _call(call: dict[str, Any], place: str) -> dict[str, Any]:
    """A call as templates want it: its arguments as fields, which OpenAI writes as JSON text."""
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{place} calls a function without a name")
    rest = {key: value for key, value in call.items() if key != "function"} if "function" in call else {}
    given = function.get("arguments")
    arguments = _parsed(given)
    return {
        "type": "function",
        **rest,
        "function": {**function, "arguments": arguments if isinstance(arguments, dict) else given or {}},
    }


def _text(content: Any, place: str) -> str | None:
    """Text as it is, or the texts of its parts one after the other; None where it is neither."""
    if isinstance(content, list):
        return "".join(_part(part, place) for part in content)
    return content if isinstance(content, str) else None


def _part(part: Any, place: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
    text = part.get("text") if isinstance(part, dict) else None
    if kind != "text" or not isinstance(text, str):
        raise DataError(f"{place} has a part of type {kind!r}; only text can be learned: remove it, or give it as text")
    return text


def _parsed(value: Any) -> Any:
    """What JSON text says; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
