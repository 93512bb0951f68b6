"""Answers of a model to the prompts of rows: greedy, in batches padded on the left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from hpo_service.training.data.tokens import IGNORED, TokenRow
from hpo_service.training.scoring.evaluation import autocast

# Rows answered at once; where they do not fit, half as many.
BATCH_ROWS = 16


@dataclass(frozen=True)
class Question:
    """Token ids of a row up to what is learned of it, and of what is learned next, up to the next gap."""

    prompt: list[int]
    reference: list[int]


def question_of(row: TokenRow) -> Question:
    """Cut a row before its first learned token: of a conversation, before the assistant's first turn."""
    learned = row.labels != IGNORED
    start = int(np.argmax(learned))
    gaps = np.flatnonzero(~learned[start:])
    end = start + int(gaps[0]) if len(gaps) else len(row.ids)
    return Question(row.ids[:start].tolist(), row.ids[start:end].tolist())


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids at which an answer ends: the tokenizer's, and those that the model's makers name besides."""
    named = getattr(model.generation_config, "eos_token_id", None)
    others = [named] if isinstance(named, int) else list(named or [])
    own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    return list(dict.fromkeys([*own, *others]))


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    padding: int,
    ends: Sequence[int],
    max_new_tokens: int,
    compute: torch.dtype = torch.float32,
    batch_rows: int = BATCH_ROWS,
    touch: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Answer every prompt with the likeliest token again and again, up to an end or the limit.

    Args:
        model: a causal language model; it is put into evaluation mode and left there.
        prompts: token ids, each at least one.
        padding: an id to fill short prompts with, on the left.
        ends: ids at which an answer ends; they are not part of it.
        max_new_tokens: longest answer; less where the model has no positions left.
        compute: type of matrix products; other than float32 it is reached by autocast.
        batch_rows: prompts answered at once; halved where memory runs out.
        touch: called at every token.

    Raises:
        torch.OutOfMemoryError: a single prompt does not fit.
    """
    model.eval()
    answers: list[list[int]] = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    with torch.no_grad(), autocast(model.device, compute):
        for indices in _batches(by_length, batch_rows):
            batch = [prompts[index] for index in indices]
            config = _greedy(_room(model, batch, max_new_tokens), padding, ends)
            for index, answer in zip(indices, _answer(model, batch, config, touch), strict=True):
                answers[index] = answer
    return answers


def _batches(by_length: Sequence[int], rows: int) -> Iterator[Sequence[int]]:
    for begin in range(0, len(by_length), rows):
        yield by_length[begin : begin + rows]


def _answer(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], config: GenerationConfig, touch: Callable[[], None]
) -> list[list[int]]:
    """Answer one batch, or its halves one after the other where it does not fit."""
    try:
        return _run(model, prompts, config, touch)
    except torch.OutOfMemoryError:
        if len(prompts) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(prompts) // 2
    return [answer for half in (prompts[:middle], prompts[middle:]) for answer in _answer(model, half, config, touch)]


def _run(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], config: GenerationConfig, touch: Callable[[], None]
) -> list[list[int]]:
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), int(config.pad_token_id), dtype=torch.long)
    mask = torch.zeros((len(prompts), longest), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    given: dict[str, Any] = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    alive = StoppingCriteriaList([_Alive(touch)])
    generating: Any = model
    written = generating.generate(**given, generation_config=config, stopping_criteria=alive)
    return [_until_end(answer, config.eos_token_id or []) for answer in written[:, longest:].tolist()]


def _greedy(limit: int, padding: int, ends: Sequence[int]) -> GenerationConfig:
    # what is not said here would be taken from the model's makers, who like to sample
    return GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        use_cache=True,
        pad_token_id=padding,
        eos_token_id=list(ends) or None,
    )


def _room(model: PreTrainedModel, prompts: Sequence[Sequence[int]], wanted: int) -> int:
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    before = getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", None) or 0
    return min(wanted, max(1, positions - before - max(map(len, prompts)))) if positions else wanted


def _until_end(answer: list[int], ends: Sequence[int]) -> list[int]:
    places = [place for place, token in enumerate(answer) if token in ends]
    return answer[: places[0]] if places else answer


class _Alive(StoppingCriteria):
    """Stops nothing: it is asked after every token, which shows that the work goes on."""

    def __init__(self, touch: Callable[[], None]) -> None:
        self._touch = touch

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        self._touch()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
