"""Which rows are trained on, watched and scored once: decided by what is in a row, before the study starts."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass

from hpo_service.domain.data_spec import SplitSpec
from hpo_service.errors import DataError
from hpo_service.training.formats import Example


@dataclass(frozen=True)
class Split:
    """The three parts, each in an order that follows from content and seed alone; `dropped` rows leaked."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    dropped: int


def split_examples(examples: list[Example], spec: SplitSpec, max_rows: int | None = None) -> Split:
    """Cut by a hash of normalised content and seed; equal rows always fall into the same part.

    A held-out row that differs from a training row (or from an earlier held-out row) only in case, spacing or
    punctuation is dropped. `max_rows` keeps the rows with the smallest hashes.

    Raises:
        DataError: a part is empty.
    """
    ordered = sorted(((_digest(normalised(e.content), spec.seed), e) for e in examples), key=lambda pair: pair[0])
    if max_rows is not None and len(ordered) > max_rows:
        # Another salt than the one that decides the part, or the parts would not be fair samples.
        chosen = sorted(ordered, key=lambda pair: _digest(pair[0], spec.seed))[:max_rows]
        ordered = sorted(chosen, key=lambda pair: pair[0])
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for digest, example in ordered:
        parts[_part(digest, spec)].append(example)
    seen = {loose_key(example.content) for example in parts["train"]}
    validation = _unseen(parts["validation"], seen)
    test = _unseen(parts["test"], seen)
    dropped = len(ordered) - len(parts["train"]) - len(validation) - len(test)
    split = Split(parts["train"], validation, test, dropped)
    _check_parts(split, len(ordered), spec)
    return split


def normalised(text: str) -> str:
    """The text with composed characters and single spaces, so that invisible differences do not count."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def loose_key(text: str) -> str:
    """What is left of a text without case, spacing and punctuation; the text itself where that is nothing."""
    bare = "".join(character for character in unicodedata.normalize("NFKC", text).casefold() if character.isalnum())
    return bare or text


def _digest(text: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\n{text}".encode(errors="surrogatepass")).hexdigest()


def _part(digest: str, spec: SplitSpec) -> str:
    share = int(digest[:16], 16) / 2**64
    if share < spec.test:
        return "test"
    return "validation" if share < spec.test + spec.validation else "train"


def _unseen(examples: list[Example], seen: set[str]) -> list[Example]:
    """The examples not seen before, in order; what is kept is added to `seen`."""
    kept = []
    for example in examples:
        key = loose_key(example.content)
        if key not in seen:
            seen.add(key)
            kept.append(example)
    return kept


def _check_parts(split: Split, rows: int, spec: SplitSpec) -> None:
    for name in ("train", "validation", "test"):
        if not getattr(split, name):
            raise DataError(
                f"the {name} part is empty: {rows} rows were cut into {len(split.train)} for training, "
                f"{len(split.validation)} for validation and {len(split.test)} for testing "
                f"({split.dropped} dropped as repeats); give more rows or other shares than "
                f"validation {spec.validation:g} and test {spec.test:g}"
            )
