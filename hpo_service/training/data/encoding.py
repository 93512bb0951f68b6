"""Examples as token ids, and which of them are learned."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from hpo_service.errors import DataError
from hpo_service.training.data.formats import NOT_LEARNED
from hpo_service.training.data.reading.example import Example
from hpo_service.training.data.turns import ChatTemplate, Span, TurnCounts

Encoded = tuple[Sequence[int], Sequence[bool]]
# Texts that a completion may stand behind, tried in this order, where a tokenizer puts a space before every text.
ANCHORS = ("\n", ":", ".", ")", "x")
# Learned tokens at the end of a row among which an end mark is looked for: templates put a line break behind it.
END_TOKENS = 4


class Encoder:
    """Encodes examples with one tokenizer and counts what is not learned of them.

    Attributes:
        turns: what became of the turns of conversations.
        padding: ids of rows that came tokenised which were padding; they are taken off.
        plain: prompts with completions that are not turns, though there is a chat template.
        unended: rows of which no end mark is learned, so that a model does not learn to stop.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.plain = 0
        self.turns = TurnCounts()
        self.padding = 0
        self.unended = 0
        self._template = ChatTemplate(tokenizer, chat_template)

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Ids of each example and whether each id is learned, before any cut.

        Raises:
            DataError: the tokenizer lacks a chat template, a conversation does not fit it, or it does not know an id.
        """
        plain = [example for example in examples if not example.messages and not example.ids]
        pairs = iter(self._pairs(plain) if plain else ())
        encoded = [
            self._as_given(e) if e.ids else self._conversation(e) if e.messages else next(pairs) for e in examples
        ]
        self.plain += sum(bool(example.prompt) for example in plain) if self._template.text else 0
        self.unended += sum(not self._is_ended(*each) for each in encoded)
        return encoded

    def _pairs(self, examples: Sequence[Example]) -> list[Encoded]:
        eos = self.tokenizer.eos_token_id
        end = [eos] if eos is not None else []
        # Apart, so that no token spans the border: exactly what generating from the prompt will see.
        prompts = self.tokenizer([example.prompt for example in examples]).input_ids
        completions = self.tokenizer([example.completion for example in examples], add_special_tokens=False).input_ids
        encoded: list[Encoded] = []
        for example, prompt, alone in zip(examples, prompts, completions, strict=True):
            start = prompt[:-1] if end and prompt[-1:] == end and len(prompt) > 1 else prompt
            completion = self._behind_anchor(example.completion, alone) if example.prompt else alone
            ids = [*start, *completion, *end]
            encoded.append((ids, [False] * len(start) + [True] * (len(ids) - len(start))))
        return encoded

    def _behind_anchor(self, text: str, alone: list[int]) -> list[int]:
        """The ids of a text that stands behind another, without the space that is put before a text alone."""
        for anchor, ids in self._anchors:
            both = self._ids(anchor + text)
            if both[: len(ids)] == ids:
                return both[len(ids) :]
        return alone

    @cached_property
    def _anchors(self) -> list[tuple[str, list[int]]]:
        """Texts behind which others can be tokenised; none where it makes no difference whether text stands alone."""
        known = [(text, self._ids(text)) for text in ANCHORS]
        usable = [(text, ids) for text, ids in known if ids and self.tokenizer.unk_token_id not in ids]
        alone = self._ids("a")
        is_the_same = any(self._ids(text + "a") == [*ids, *alone] for text, ids in usable)
        return [] if is_the_same else usable

    def _as_given(self, example: Example) -> Encoded:
        """The ids as they came but for padding; without labels all are learned, since nothing says otherwise."""
        vocabulary = len(self.tokenizer)
        strange = next((token for token in example.ids if not 0 <= token < vocabulary), None)
        if strange is not None:
            raise DataError(
                f"{example.origin}: the token {strange} is not in the vocabulary of {vocabulary} of the model's "
                "tokenizer; tokenise the rows with that one, or give them as text"
            )
        kept = self._unpadded(example.ids)
        self.padding += example.padding + len(example.ids) - (kept.stop - kept.start)
        labels = example.labels or example.ids
        return example.ids[kept], [label != NOT_LEARNED for label in labels[kept]]

    def _unpadded(self, ids: Sequence[int]) -> slice:
        """Ids between runs of padding at both ends; one is kept where it is also the mark of an end."""
        padding, kept = self.tokenizer.pad_token_id, 0
        begin, end = 0, len(ids)
        if padding in (self.tokenizer.eos_token_id, self.tokenizer.bos_token_id):
            kept = 1
        while end - kept > begin and ids[end - 1 - kept : end] == [padding] * (1 + kept):
            end -= 1
        while begin + kept < end and ids[begin : begin + 1 + kept] == [padding] * (1 + kept):
            begin += 1
        return slice(begin, end)

    def _conversation(self, example: Example) -> Encoded:
        """Render with the chat template; the assistant's turns are learned, their end marks included."""
        generated = self._template.generated(example, self.turns)
        if generated is not None:
            return generated
        text, spans = self._template.rendered(example, self.turns)
        if not self.tokenizer.is_fast:
            return self._by_segments(example, text, spans)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        learned = [
            any(start <= begin < end or _begins(text, begin, stop, start) for start, end in spans)
            for begin, stop in encoded["offset_mapping"]
        ]
        return encoded["input_ids"], learned

    def _by_segments(self, example: Example, text: str, spans: Sequence[Span]) -> Encoded:
        """Tokenise what is learned and what is not apart, where a tokenizer cannot tell where its tokens stand."""
        ids: list[int] = []
        learned: list[bool] = []
        done = 0
        for start, end in [*spans, (len(text), len(text))]:
            for begin, stop, is_learned in ((done, start, False), (start, end, True)):
                segment = self._ids(text[begin:stop]) if begin < stop else []
                ids += segment
                learned += [is_learned] * len(segment)
            done = end
        if ids != self._ids(text):
            raise DataError(
                f"{example.origin}: the model's tokenizer cannot tell where the assistant's turns begin and end (it "
                "has no fast form); use the prompt-completion format"
            )
        return ids, learned

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _is_ended(self, ids: Sequence[int], learned: Sequence[bool]) -> bool:
        last = [token for token, is_learned in zip(reversed(ids), reversed(learned), strict=True) if is_learned]
        return not last or any(token in self._end_marks for token in last[:END_TOKENS])

    @cached_property
    def _end_marks(self) -> set[int]:
        """Special tokens other than those that begin, fill or stand for the unknown."""
        tokenizer = self.tokenizer
        special = {place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
        others = {tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
        end = {tokenizer.eos_token_id} - {None}
        return (special | {*tokenizer.all_special_ids}) - others | end


def _begins(text: str, begin: int, stop: int, start: int) -> bool:
    """Whether a token holds the first word of a turn together with the space before it."""
    return begin < start < stop and not text[begin:start].strip()
