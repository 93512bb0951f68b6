"""Rows as the model sees them, in text, with what of them is learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice

from transformers import PreTrainedTokenizerBase

from hpo_service.domain.study.data_report import ShownPiece, ShownRow
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.errors import DataError
from hpo_service.training.data.encoding import Encoder
from hpo_service.training.data.formats import examples_of, format_of
from hpo_service.training.data.reading.columns import named
from hpo_service.training.data.reading.source import places, read_rows
from hpo_service.training.data.reading.weight import counts


def shown_rows(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, rows: int) -> list[ShownRow]:
    """The first rows of a study's source, in the order of its files, before they are split.

    Raises:
        DataError: they cannot be read, or a row does not fit.
    """
    cut = chain.from_iterable(read_rows(place) for place in places(spec) if place.part is None)
    raw = list(islice((row for row in cut if counts(row, spec.weight)), rows))
    if not raw:
        raise DataError(f"{spec.called}: every row has the weight 0, so there is nothing to learn")
    understood = [named(row, spec) for row in raw]
    shape = format_of(understood[0], raw[0], spec)
    encoder, shown = Encoder(tokenizer, spec.chat_template), []
    for example in examples_of(understood, shape, spec):
        ((ids, said),) = encoder.encode([example])
        learned = [spec.learn == "all" or each for each in said]
        # nothing predicts the first token
        learned[:1] = [False]
        pieces = list(_pieces(ids[: spec.max_length], learned[: spec.max_length], tokenizer))
        shown.append(ShownRow(origin=example.origin, format=shape, tokens_uncut=len(ids), pieces=pieces))
    return shown


def _pieces(ids: Sequence[int], learned: Sequence[bool], tokenizer: PreTrainedTokenizerBase) -> Iterator[ShownPiece]:
    """The text of each stretch that is learned, or is not: what it adds to the text of all before it.

    By itself a stretch may read otherwise: some tokenizers drop a space in front, others end within a character.
    """
    before, end = "", 0
    for is_learned, stretch in groupby(learned):
        begin, end = end, end + len(list(stretch))
        through = _text(tokenizer, ids[:end])
        added = through[len(before) :] if through.startswith(before) else _text(tokenizer, ids[begin:end])
        before = through
        yield ShownPiece(text=added, learned=is_learned, tokens=end - begin)


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
