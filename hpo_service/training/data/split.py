"""Which rows are trained on, watched and scored once: decided by what is in a row, before the study starts."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

from hpo_service.domain.study.sections.data import HeldOut, SplitSpec
from hpo_service.errors import DataError
from hpo_service.training.data.reading.example import Example

# What a character that is mostly punctuation is where it stands as a sign, and the symbol that it becomes.
SIGNS = (
    (re.compile(r"(?<![\w-])-+(?=\w)|(?<!\w)\u2013(?=\d)|(?<=\d)\s*[-\u2013]\s*(?=\d)"), "\u2212"),  # minus
    (re.compile(r"(?<![^\W\d]|\.)[.\u066b](?=\d)"), "\u22c5"),  # decimal point
    (re.compile(r"(?<![\w!])!(?=\w)|!(?==)"), "\u00ac"),  # not
)
TELLING_PUNCTUATION = frozenset("#%&*/@\\_")
# Symbols that only quote, and selectors that choose between forms of one character.
UNSEEN = frozenset("`\u00b4") | frozenset(map(chr, range(0xFE00, 0xFE10)))
BETWEEN_NUMBERS = re.compile(r"(?<=\d) +(?=\d)")


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Keys:
    """What the split of a row goes by, so that the row itself need not be held.

    Attributes:
        digest: of its normalised content and the seed; rows are ordered by it.
        decisive: which part it falls into: the digest, or that of its group.
        loose: stands for its content without case, spacing and punctuation.
        group: its group's name, if there are groups.
    """

    digest: str
    decisive: str
    loose: bytes
    group: str | None


def keys_of(example: Example, seed: int) -> Keys:
    """What the split of an example goes by."""
    digest = _digest(normalised(example.content), seed)
    loose = hashlib.blake2b(loose_key(example.content).encode(errors="surrogatepass"), digest_size=16).digest()
    decisive = digest if example.group is None else _digest(normalised(example.group), seed)
    return Keys(digest, decisive, loose, example.group)


@dataclass(frozen=True)
class Split(Generic[Row]):
    """The three parts, each in an order that follows from content and seed alone, and what was found on the way.

    Attributes:
        train: rows that are trained on, repeats among them included.
        validation: rows that pruning and selection look at; none of them is in `train`.
        test: rows that are scored once; none of them is in `train` or `validation`.
        leaked: held-out rows dropped because they stand in an earlier part too.
        repeated: held-out rows dropped because they stand in their own part already.
        duplicates: training rows that repeat an earlier one; they are kept.
        groups: number of groups in each part, empty where rows have none.
    """

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    leaked: int = 0
    repeated: int = 0
    duplicates: int = 0
    groups: dict[str, int] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, list[Row]]:
        """The parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split_examples(
    examples: list[Example],
    spec: SplitSpec,
    max_rows: int | None = None,
    own: Mapping[HeldOut, list[Example]] | None = None,
) -> Split[Example]:
    """Cut examples; see `split_rows`."""
    own = own or {}
    every = [(keys_of(example, spec.seed), example) for example in examples]
    held_out = {part: [(keys_of(example, spec.seed), example) for example in given] for part, given in own.items()}
    return split_rows(every, spec, max_rows, held_out)


def split_rows(
    rows: list[tuple[Keys, Row]],
    spec: SplitSpec,
    max_rows: int | None = None,
    own: Mapping[HeldOut, list[tuple[Keys, Row]]] | None = None,
) -> Split[Row]:
    """Cut by a hash of normalised content and seed; equal rows, and rows of one group, fall into the same part.

    A held-out row that differs from a training row (or from an earlier held-out row) only in case, spacing or
    punctuation is dropped.

    Args:
        rows: those that are cut, each behind its keys.
        spec: shares and seed.
        max_rows: keep this many of them, those with the smallest hashes.
        own: rows of held-out parts that are given as such; nothing is cut off for those.

    Raises:
        DataError: a part is empty.
    """
    ordered = _ordered(rows)
    if max_rows is not None and len(ordered) > max_rows:
        # Another salt than the one that decides the part, or the parts would not be fair samples.
        ordered = _ordered(sorted(ordered, key=lambda row: _digest(row[0].digest, spec.seed))[:max_rows])
    own = own or {}
    parts: dict[str, list[tuple[Keys, Row]]] = {"train": [], "validation": [], "test": []}
    for keys, row in ordered:
        parts[_part(keys.decisive, spec, own)].append((keys, row))
    parts |= {name: _ordered(given) for name, given in own.items()}
    return _without_leaks(parts, sum(map(len, parts.values())), spec, own)


def _ordered(rows: list[tuple[Keys, Row]]) -> list[tuple[Keys, Row]]:
    return sorted(rows, key=lambda row: row[0].digest)


def _without_leaks(
    parts: dict[str, list[tuple[Keys, Row]]], rows: int, spec: SplitSpec, own: Collection[HeldOut]
) -> Split[Row]:
    seen = {keys.loose for keys, _ in parts["train"]}
    duplicates = len(parts["train"]) - len(seen)
    leaked = repeated = 0
    for name in ("validation", "test"):
        kept, again = _unseen(parts[name], seen)
        leaked += len(parts[name]) - len(kept) - again
        repeated += again
        parts[name] = kept
    train, validation, test = ([row for _, row in parts[name]] for name in ("train", "validation", "test"))
    split = Split(train, validation, test, leaked, repeated, duplicates, groups=_groups(parts))
    _check_parts(split, rows, spec, own)
    return split


def normalised(text: str) -> str:
    """The text with composed characters and single spaces, so that invisible differences do not count."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def loose_key(text: str) -> str:
    """What is left of a text without case, spacing and the punctuation of sentences; the text itself if nothing is.

    What changes a meaning stays: signs, decimal points, operators and other symbols, the marks of letters, and that
    two numbers are two.
    """
    for sign, stands_for in SIGNS:
        text = sign.sub(stands_for, text)
    plain = unicodedata.normalize("NFKC", "".join(map(_raised, text))).casefold()
    kept = BETWEEN_NUMBERS.sub("\x1f", "".join(each if _tells(each) else " " for each in plain))
    return kept.replace(" ", "").replace("\x1f", " ") or text


@cache
def _tells(character: str) -> bool:
    category = unicodedata.category(character)
    return (category[0] in "LNMS" and character not in UNSEEN) or character in TELLING_PUNCTUATION


@cache
def _raised(character: str) -> str:
    """A raised character with a mark before it, so that 5\u00b2 does not become 52."""
    return f"^{character}" if unicodedata.decomposition(character).startswith("<super>") else character


def _digest(text: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\n{text}".encode(errors="surrogatepass")).hexdigest()


def _part(digest: str, spec: SplitSpec, own: Collection[HeldOut]) -> str:
    share = int(digest[:16], 16) / 2**64
    if share < spec.test:
        return "train" if "test" in own else "test"
    return "validation" if share < spec.test + spec.validation and "validation" not in own else "train"


def _unseen(rows: list[tuple[Keys, Row]], earlier: set[bytes]) -> tuple[list[tuple[Keys, Row]], int]:
    """The rows not in earlier parts, each once, in order; with them how many repeats there were among them.

    What is kept is added to `earlier`.
    """
    kept: dict[bytes, tuple[Keys, Row]] = {}
    repeats = 0
    for keys, row in rows:
        if keys.loose in kept:
            repeats += 1
        elif keys.loose not in earlier:
            kept[keys.loose] = (keys, row)
    earlier.update(kept)
    return list(kept.values()), repeats


def _groups(parts: Mapping[str, list[tuple[Keys, Row]]]) -> dict[str, int]:
    named = {name: {keys.group for keys, _ in rows if keys.group is not None} for name, rows in parts.items()}
    return {name: len(groups) for name, groups in named.items()} if any(named.values()) else {}


def _check_parts(split: Split[Row], rows: int, spec: SplitSpec, own: Collection[HeldOut]) -> None:
    for name, part in split.parts.items():
        if not part and name in own:
            raise DataError(
                f"the {name} part is empty: every row that data.{name} names stands in an earlier part too; "
                "name rows that are not trained on"
            )
        if not part:
            groups = " in groups that stay together" if split.groups else ""
            raise DataError(
                f"the {name} part is empty: {rows} rows{groups} were cut into {len(split.train)} for training, "
                f"{len(split.validation)} for validation and {len(split.test)} for testing "
                f"({split.leaked + split.repeated} dropped as repeats); give more rows or other shares than "
                f"validation {spec.validation:g} and test {spec.test:g}"
            )
