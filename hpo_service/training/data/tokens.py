"""Rows as the model sees them: token ids, and which of them are learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from hpo_service.domain.study.sections.data import Learned
from hpo_service.errors import DataError
from hpo_service.training.data.formats import NOT_LEARNED, Example

# The label that cross entropy leaves out.
IGNORED = NOT_LEARNED
BATCH = 1000

Ids = npt.NDArray[np.int32]
Bounds = npt.NDArray[np.int64]
Encoded = tuple[Sequence[int], Sequence[bool]]


@dataclass(frozen=True)
class TokenRow:
    """Token ids of a row and its labels, equally long: the id where the token is learned, else `IGNORED`.

    The first label is always ignored, since nothing predicts the first token.
    """

    ids: Ids
    labels: Ids

    @property
    def supervised(self) -> int:
        """Number of learned tokens."""
        return int((self.labels != IGNORED).sum())


# The names of the arrays that hold rows.
ARRAYS = ("ids", "labels", "bounds")


class TokenRows(Sequence[TokenRow]):
    """Rows in two flat arrays, which may lie on disk: row i is `bounds[i]` to `bounds[i + 1]`, made when asked for."""

    def __init__(self, ids: Ids, labels: Ids, bounds: Bounds) -> None:
        self.ids, self.labels, self.bounds = ids, labels, bounds

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> TokenRows:
        """Lay rows into arrays."""
        bounds = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(np.asarray([len(row.ids) for row in rows], dtype=np.int64), out=bounds[1:])
        empty = np.zeros(0, dtype=np.int32)
        ids = np.concatenate([empty, *(row.ids for row in rows)])
        return cls(ids, np.concatenate([empty, *(row.labels for row in rows)]), bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, index: int) -> TokenRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenRow]: ...
    def __getitem__(self, index: int | slice) -> TokenRow | list[TokenRow]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        part = slice(self.bounds[place], self.bounds[place + 1])
        return TokenRow(self.ids[part], self.labels[part])

    @property
    def lengths(self) -> Bounds:
        """Tokens of each row."""
        return np.diff(self.bounds)


@dataclass(frozen=True)
class Tokenised:
    """Rows of one part with what cutting them to length cost; `lengths` are those of all its rows before the cut."""

    rows: TokenRows
    lengths: Bounds
    truncated: int
    unsupervised: int


def tokenise(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    learn: Learned = "completions",
    touch: Callable[[float], None] = lambda _: None,
) -> Tokenised:
    """Turn examples into token rows of at most `max_length`; rows left without a learned token are dropped.

    Raises:
        DataError: the tokenizer lacks a chat template, a conversation does not fit it, or it does not know an id.
    """
    rows: list[TokenRow] = []
    lengths: list[int] = []
    for begin in range(0, len(examples), BATCH):
        for ids, learned in _encode(examples[begin : begin + BATCH], tokenizer):
            lengths.append(len(ids))
            every = [True] * len(ids) if learn == "all" else learned
            rows.append(_row(ids[:max_length], every[:max_length]))
        touch(len(rows) / len(examples))
    kept = [row for row in rows if row.supervised]
    uncut = np.asarray(lengths, dtype=np.int64)
    return Tokenised(TokenRows.of(kept), uncut, int((uncut > max_length).sum()), len(rows) - len(kept))


def collate(rows: Sequence[TokenRow], padding: int) -> dict[str, torch.Tensor]:
    """Stack rows to [rows, longest], padded on the right; what is padding is told by the mask, never by the id."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), padding, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.from_numpy(row.ids)
        labels[index, : len(row.ids)] = torch.from_numpy(row.labels)
        mask[index, : len(row.ids)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _row(ids: Sequence[int], learned: Sequence[bool]) -> TokenRow:
    array = np.asarray(ids, dtype=np.int32)
    labels = np.where(np.asarray(learned, dtype=bool), array, np.int32(IGNORED))
    labels[:1] = IGNORED
    return TokenRow(array, labels)


def _encode(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    if examples[0].messages:
        return [_encode_conversation(example, tokenizer) for example in examples]
    if examples[0].ids:
        vocabulary = len(tokenizer)
        return [_as_given(example, vocabulary) for example in examples]
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    # Apart, so that no token spans the border: exactly what generating from the prompt will see.
    prompts = tokenizer([example.prompt for example in examples]).input_ids
    completions = tokenizer([example.completion for example in examples], add_special_tokens=False).input_ids
    encoded: list[Encoded] = []
    for prompt, completion in zip(prompts, completions, strict=True):
        start = prompt[:-1] if end and prompt[-1:] == end and len(prompt) > 1 else prompt
        ids = [*start, *completion, *end]
        encoded.append((ids, [False] * len(start) + [True] * (len(ids) - len(start))))
    return encoded


def _as_given(example: Example, vocabulary: int) -> Encoded:
    """The ids as they came; without labels all of them are learned, since nothing says otherwise."""
    strange = next((token for token in example.ids if not 0 <= token < vocabulary), None)
    if strange is not None:
        raise DataError(
            f"{example.origin}: the token {strange} is not in the vocabulary of {vocabulary} of the model's tokenizer; "
            "tokenise the rows with that one, or give them as text"
        )
    return example.ids, [label != IGNORED for label in example.labels or example.ids]


def _encode_conversation(example: Example, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Render with the chat template; the assistant's turns are learned, their end marks included."""
    text, spans = _rendered(example, tokenizer)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    learned = [any(start <= begin < end for start, end in spans) for begin, _ in encoded["offset_mapping"]]
    return encoded["input_ids"], learned


def _rendered(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[tuple[int, int]]]:
    if not tokenizer.chat_template:
        raise DataError(
            f"{example.origin}: the model's tokenizer has no chat template, so conversations cannot be rendered; "
            "use an instruction-tuned model or the prompt-completion format"
        )
    messages = list(example.messages)
    text = _render(example, tokenizer, messages, prompt=False)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        through = _render(example, tokenizer, messages[: index + 1], prompt=False)
        # Some templates rewrite earlier turns (drop their reasoning): such turns are context, not learned.
        if text.startswith(through):
            start = _turn_start(example, tokenizer, index, through)
            # others leave the assistant out altogether
            spans += [(start, len(through))] if start < len(through) else []
    if not spans:
        raise DataError(
            f"{example.origin}: the model's chat template shows no turn of the assistant as it was written; "
            "use the prompt-completion format"
        )
    return text, spans


def _turn_start(example: Example, tokenizer: PreTrainedTokenizerBase, index: int, through: str) -> int:
    """Where the turn begins: after the header that asks for it, or, where that is written otherwise, before it."""
    for prompt in (True, False):
        before = _render(example, tokenizer, list(example.messages[:index]), prompt=prompt) if index else ""
        if through.startswith(before):
            return len(before)
    raise DataError(
        f"{example.origin}: the model's chat template rewrites what came before a turn of the assistant; "
        "use the prompt-completion format"
    )


def _render(
    example: Example, tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, prompt: bool
) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))
    except (TemplateError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{example.origin}: the model's chat template refuses the conversation: {reason}") from error
