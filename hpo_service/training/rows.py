"""The rows of a study, tokenised once and kept while the process lives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from hpo_service.domain.data_spec import DataSpec
from hpo_service.errors import DataError
from hpo_service.training.formats import read_examples
from hpo_service.training.source import read_rows
from hpo_service.training.split import split_examples
from hpo_service.training.tokens import Tokenised, TokenRow, tokenise


@dataclass(frozen=True)
class StudyRows:
    """Token rows of the three parts; `facts` count what was cut or dropped, `fingerprint` tells them from others.

    `largest_id` and `longest` (tokens) are those of all rows.
    """

    train: list[TokenRow]
    validation: list[TokenRow]
    test: list[TokenRow]
    facts: dict[str, int | str]
    fingerprint: str
    largest_id: int
    longest: int


def prepare_rows(
    spec: DataSpec,
    tokenizer: PreTrainedTokenizerBase,
    touch: Callable[[float], None] = lambda _: None,
) -> StudyRows:
    """Read, understand, split and tokenise the data of a study.

    Raises:
        DataError: the data cannot be used; the message names file, row or column.
    """
    shape, examples = read_examples(read_rows(spec.source), spec.format)
    split = split_examples(examples, spec.split, spec.max_rows)
    train = tokenise(split.train, tokenizer, spec.max_length, touch)
    validation = tokenise(split.validation, tokenizer, spec.max_length, touch)
    test = tokenise(split.test, tokenizer, spec.max_length, touch)
    _check_supervision({"train": train, "validation": validation, "test": test}, spec)
    facts: dict[str, int | str] = {
        "data_format": shape,
        "rows_train": len(train.rows),
        "rows_validation": len(validation.rows),
        "rows_test": len(test.rows),
        "rows_truncated": train.truncated + validation.truncated + test.truncated,
        "rows_unsupervised": train.unsupervised + validation.unsupervised + test.unsupervised,
        "rows_repeated": split.dropped,
    }
    everything = [*train.rows, *validation.rows, *test.rows]
    return StudyRows(
        train.rows,
        validation.rows,
        test.rows,
        facts,
        fingerprint=_fingerprint([train.rows, validation.rows, test.rows]),
        largest_id=max(int(row.ids.max()) for row in everything),
        longest=max(len(row.ids) for row in everything),
    )


def _check_supervision(parts: dict[str, Tokenised], spec: DataSpec) -> None:
    lost = sum(part.unsupervised for part in parts.values())
    total = lost + sum(len(part.rows) for part in parts.values())
    if lost * 2 > total:
        raise DataError(
            f"{spec.source}: {lost} of {total} rows have nothing to learn within data.max_length = "
            f"{spec.max_length} tokens: raise it, or shorten the prompts"
        )
    for name, part in parts.items():
        if not part.rows:
            raise DataError(
                f"{spec.source}: no row of the {name} part has anything to learn within data.max_length = "
                f"{spec.max_length} tokens: raise it, or shorten the prompts"
            )


def _fingerprint(parts: list[list[TokenRow]]) -> str:
    digest = hashlib.sha256()
    for rows in parts:
        digest.update(f"{len(rows)}\n".encode())
        for row in rows:
            digest.update(row.ids.tobytes())
            digest.update(row.labels.tobytes())
    return digest.hexdigest()
