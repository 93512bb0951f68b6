"""Conversations in a model's own words, and where in them the assistant speaks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from hpo_service.errors import DataError
from hpo_service.training.data.conversation import ASSISTANT, CALLS, REASONING, Message
from hpo_service.training.data.reading.example import Example

Span = tuple[int, int]
# Stands in the place of what a turn says, to see where the template puts it; no filter of templates changes it.
MARK = "0TURN0MARK0"
GENERATION = re.compile(r"{%[-+]?\s*generation\s*[-+]?%}")


@dataclass
class TurnCounts:
    """What became of the assistant's turns, and how often a template left out something that means something.

    Attributes:
        turns: of the assistant.
        marked: not learned because the row says so.
        hidden: not learned because the template does not show them as they were written.
        altered: learned, though the template leaves out or changes a part, such as earlier reasoning.
        left_out: by the name of the field or role.
    """

    turns: int = 0
    marked: int = 0
    hidden: int = 0
    altered: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, other: TurnCounts) -> None:
        """Count the turns of other conversations too."""
        self.turns += other.turns
        self.marked += other.marked
        self.hidden += other.hidden
        self.altered += other.altered
        self.left_out += other.left_out


class ChatTemplate:
    """A chat template: it renders conversations and finds the assistant's turns in what it rendered.

    Attributes:
        tokenizer: whose template it is, and which turns what it renders into ids.
        given: a study's own template, used in place of the tokenizer's.
        called: the template in words, for messages.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, given: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.given = given
        self.called = "the model's chat template" if given is None else "data.chat_template"

    @property
    def text(self) -> Any:
        """The template itself, or several by name; nothing where there is none."""
        return self.given or self.tokenizer.chat_template

    def rendered(self, example: Example, counts: TurnCounts) -> tuple[str, list[Span]]:
        """A conversation as text, and where its turns of the assistant stand that are learned, end marks included.

        Raises:
            DataError: there is no template, or it does not fit the conversation.
        """
        self._check_template(example)
        text = self._render(example, example.messages)
        places = _places(example)
        spans = {place: self._span(example, place, text) for place in places}
        spans = {p: span and self._shown_part(text, span, example.messages[p]) for p, span in spans.items()}
        if not any(spans.values()):
            raise DataError(
                f"{example.origin}: {self.called} shows no turn of the assistant as it was written; "
                "use the prompt-completion format"
            )
        learned = {place: span for place, span in spans.items() if span and place not in example.unlearned}
        counts.turns += len(places)
        counts.marked += len(example.unlearned & set(places))
        counts.hidden += len(set(places) - example.unlearned - set(learned))
        counts.altered += sum(not _shows(text[slice(*span)], example.messages[p]) for p, span in learned.items())
        counts.left_out.update(self._left_out(example, text))
        return text, list(learned.values())

    def generated(self, example: Example, counts: TurnCounts) -> tuple[list[int], list[bool]] | None:
        """The ids of a conversation, and which of them the template itself marks with `{% generation %}`.

        None where the template has no such marks, or the tokenizer cannot tell where its tokens stand.

        Raises:
            DataError: there is no template, or it does not fit the conversation.
        """
        self._check_template(example)
        if not self.tokenizer.is_fast or not self._has_marks(example):
            return None
        encoded = self._applied(example, example.messages, return_dict=True, return_assistant_tokens_mask=True)
        ids, learned = list(encoded["input_ids"]), [bool(each) for each in encoded["assistant_masks"]]
        places, runs = _places(example), _runs(learned)
        if len(runs) != len(places) and example.unlearned:
            raise DataError(
                f"{example.origin}: {self.called} marks {len(runs)} stretches as generated for "
                f"{len(places)} turns of the assistant, so that those not to be learned cannot be told apart"
            )
        for place, run in zip(places, runs, strict=False):
            if place in example.unlearned:
                learned[run] = [False] * (run.stop - run.start)
        counts.turns += len(places)
        counts.marked += len(example.unlearned & {*places})
        counts.hidden += max(0, len(places) - len(runs))
        counts.left_out.update(self._left_out(example, self._render(example, example.messages)))
        return ids, learned

    def _check_template(self, example: Example) -> None:
        if not self.text:
            raise DataError(
                f"{example.origin}: the model's tokenizer has no chat template, so conversations cannot be rendered; "
                "use an instruction-tuned model or the prompt-completion format, or give one as data.chat_template"
            )

    def _has_marks(self, example: Example) -> bool:
        if self.given is not None:
            return bool(GENERATION.search(self.given))
        try:
            template = self.tokenizer.get_chat_template(tools=list(example.tools) or None)
        except ValueError:
            return False
        return bool(GENERATION.search(template))

    def _span(self, example: Example, place: int, text: str) -> Span | None:
        """Where one turn stands in the text of all of them; None where it is not shown as it was written."""
        through = self._render(example, example.messages[: place + 1])
        if not text.startswith(through):
            # Some templates write earlier turns otherwise than the last one: without reasoning, or without an end.
            return self._found(example, place, text)
        start = self._start(example, place, through)
        if start is None:
            raise DataError(
                f"{example.origin}: {self.called} rewrites what came before a turn of the assistant; "
                "use the prompt-completion format"
            )
        # others leave the assistant out altogether
        return (start, len(through)) if start < len(through) else None

    def _start(self, example: Example, place: int, text: str) -> int | None:
        """Where a turn begins: after the header that asks for it, or, where that is written otherwise, before it."""
        for prompt in (True, False):
            before = self._render(example, example.messages[:place], prompt=prompt) if place else ""
            if text.startswith(before):
                return len(before)
        return None

    def _found(self, example: Example, place: int, text: str) -> Span | None:
        """Look for a turn by what stands around it when it says something else.

        Its end is as much of what would follow it if it were the last as follows it here.
        """
        turn = example.messages[place]
        marked = [*example.messages[:place], _marked(turn), *example.messages[place + 1 :]]
        before, mark, after = self._render(example, marked).partition(MARK)
        before_last, _, after_last = self._render(example, marked[: place + 1]).partition(MARK)
        following = after[self._shared(after, after_last) :]
        if not mark or MARK in after or not (text.startswith(before) and text.endswith(following)):
            return None
        if not text.endswith(after) or not _is_as_written(text[len(before) : len(text) - len(after)], turn):
            return None
        return self._opening(example, place, text, before, before_last), len(text) - len(following)

    def _opening(self, example: Example, place: int, text: str, before: str, before_last: str) -> int:
        """Where a turn begins whose words stand behind `before`, and behind `before_last` if it were the last.

        That is after the header that asks for it; else as far before its words as it would be if it were the last; else
        where other words in its place would make a difference.
        """
        messages = example.messages
        asked = self._render(example, messages[:place], prompt=True) if place else ""
        if text.startswith(asked):
            return min(len(asked), len(before))
        if before_last.startswith(asked) and before.endswith(before_last[len(asked) :]):
            return len(before) - (len(before_last) - len(asked))
        other = [*messages[:place], {**messages[place], "content": MARK}, *messages[place + 1 :]]
        try:
            return min(self._shared(text, self._render(example, other)), len(before))
        except DataError:
            return len(before)

    def _shared(self, one: str, other: str) -> int:
        """Characters with which both begin; special tokens count as a whole."""
        length = 0
        for mine, theirs in zip(self._pieces.findall(one), self._pieces.findall(other), strict=False):
            if mine != theirs:
                break
            length += len(mine)
        return length

    def _shown_part(self, text: str, span: Span, turn: Message) -> Span | None:
        """The span of a turn, or None where only marks around it are shown, and nothing of what it says."""
        words = self._special.sub("", text[slice(*span)]).strip()
        calls = [call["function"]["name"] for call in turn.get(CALLS, [])]
        if turn["content"].strip():
            return span if words else None
        return span if all(name in words for name in calls) else None

    @cached_property
    def _special(self) -> re.Pattern[str]:
        tokens = {*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()} - {""}
        # one that never matches where a tokenizer has none
        return re.compile("|".join(sorted(map(re.escape, tokens), key=len, reverse=True)) or "(?!)")

    @cached_property
    def _pieces(self) -> re.Pattern[str]:
        return re.compile(f"{self._special.pattern}|.", re.DOTALL)

    def _left_out(self, example: Example, text: str) -> Iterable[str]:
        """The fields and roles of a conversation that do not show in its text."""
        squeezed = _squeezed(text)
        for message in example.messages:
            if message["role"] != ASSISTANT and not _stands_in(message["content"], squeezed):
                yield f"turns of {message['role']}"
            for name in REASONING:
                if isinstance(message.get(name), str) and not _stands_in(message[name], squeezed):
                    yield name
        calling = [message for message in example.messages if CALLS in message]
        if calling and self._is_same_without_calls(example, text):
            yield from [CALLS] * len(calling)
        if example.tools and self._render(example, example.messages, tools=False) == text:
            yield "tools"

    def _is_same_without_calls(self, example: Example, text: str) -> bool:
        without = [{key: each[key] for key in each if key != CALLS} for each in example.messages]
        try:
            return self._render(example, without) == text
        except DataError:
            return False  # the template looks for them

    def _render(
        self, example: Example, messages: Sequence[Message], *, prompt: bool = False, tools: bool = True
    ) -> str:
        return str(self._applied(example, messages, with_tools=tools, tokenize=False, add_generation_prompt=prompt))

    def _applied(
        self, example: Example, messages: Sequence[Message], *, with_tools: bool = True, **options: Any
    ) -> Any:
        if self.given is not None:
            options["chat_template"] = self.given
        options["tools"] = list(example.tools) or None if with_tools else None
        try:
            try:
                return self.tokenizer.apply_chat_template(list(messages), **options)
            except (TemplateError, TypeError):
                # a few templates want the arguments of calls as JSON text
                if not any(CALLS in message for message in messages):
                    raise
                return self.tokenizer.apply_chat_template(list(map(_with_written_arguments, messages)), **options)
        except (TemplateError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{example.origin}: {self.called} refuses the conversation: {reason}") from error


def _places(example: Example) -> list[int]:
    return [place for place, message in enumerate(example.messages) if message["role"] == ASSISTANT]


def _runs(learned: Sequence[bool]) -> list[slice]:
    """The stretches of tokens that are learned."""
    edges = [place for place, pair in enumerate(pairwise([False, *learned, False])) if pair[0] != pair[1]]
    return [slice(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def _marked(turn: Message) -> Message:
    """The turn with the mark in the place of its words, or of the first function it calls where it has none."""
    if turn["content"].strip() or CALLS not in turn:
        return {**turn, "content": MARK}
    first, *others = turn[CALLS]
    return {**turn, CALLS: [{**first, "function": {**first["function"], "name": MARK}}, *others]}


def _is_as_written(said: str, turn: Message) -> bool:
    """Whether a text is what a turn says, or the part of it that the template shows."""
    shown = _squeezed(said)
    if not turn["content"].strip() and CALLS in turn:
        return shown == _squeezed(turn[CALLS][0]["function"]["name"])
    return shown in _squeezed(turn["content"])


def _shows(span: str, turn: Message) -> bool:
    return _stands_in(turn["content"], _squeezed(span))


def _stands_in(content: str, squeezed: str) -> bool:
    written = json.dumps(content, ensure_ascii=False)[1:-1]
    return _squeezed(content) in squeezed or _squeezed(written) in squeezed


def _squeezed(text: str) -> str:
    """The text without white space, which templates trim and break as they like."""
    return "".join(text.split())


def _with_written_arguments(message: Message) -> Message:
    if CALLS not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message[CALLS]
    ]
    return {**message, CALLS: calls}
