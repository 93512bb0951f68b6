"""The rows of a study: read, understood, split and tokenised, with a report on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from hpo_service.domain.memory.micro_batches import DEFAULT_MICRO_BATCH
from hpo_service.domain.study.data_report import DataReport, PartReport, TurnsReport, Understanding
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.trial.facts import DataFacts
from hpo_service.errors import DataError
from hpo_service.training.data.split import split_rows
from hpo_service.training.data.tokenising.cores import Cores
from hpo_service.training.data.tokenising.packed_rows import PackedRows, format_of_rows
from hpo_service.training.data.tokenising.work import Work
from hpo_service.training.data.tokens import IGNORED, Bounds, Ids, Tokenised, TokenRows, gathered
from hpo_service.training.data.turns import TurnCounts

# Labels counted at once.
PIECE = 1 << 24
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class StudyRows:
    """Token rows of the three parts; `facts` count what was cut or dropped, `fingerprint` tells them from others.

    `largest_id` and `longest` (tokens, after the cut) are those of all rows.
    """

    train: TokenRows
    validation: TokenRows
    test: TokenRows
    report: DataReport
    facts: DataFacts
    largest_id: int
    longest: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all token ids and labels, in order."""
        return self.report.fingerprint


def prepare_rows(
    spec: DataSpec,
    tokenizer: PreTrainedTokenizerBase,
    touch: Callable[[float], None] = lambda _: None,
    folder: Path | None = None,
) -> StudyRows:
    """Read, understand, split and tokenise the data of a study, on all cores where there is much.

    Args:
        spec: the study's data.
        tokenizer: what turns text into ids.
        touch: told how much is done, from 0 to 1.
        folder: where what is large is kept meanwhile, and as long as the rows are used; None is memory.

    Raises:
        DataError: the data cannot be used; the message names file, row or column.
        OSError: the folder cannot be written.
    """
    packed = PackedRows(folder)
    with Cores(Work(spec, format_of_rows(spec), tokenizer)) as cores:
        packed.add(spec, cores, lambda fraction: touch(fraction / 2))
        keys = packed.keys
        split = split_rows(keys[None], spec.split, spec.max_rows, own={part: keys[part] for part in spec.held_out})
        packed.keys = keys = {}  # as large as the rest
        total, parts = sum(map(len, split.parts.values())), dict[str, Tokenised]()
        for name, numbers in split.parts.items():
            done = sum(len(part.lengths) for part in parts.values())
            told = partial(_tell, touch, done, total)
            parts[name] = gathered(cores.map(Work.tokenise, packed.packed(numbers)), folder, told)
    _check_supervision(parts, spec)
    rows = [part.rows for part in parts.values()]
    report = DataReport(
        source=spec.called,
        format=cores.work.format,
        learn=spec.learn,
        max_length=spec.max_length,
        rows_read=packed.read,
        rows_without_weight=packed.read - len(packed),
        rows_split=sum(map(len, split.parts.values())) + split.leaked + split.repeated,
        leaked=split.leaked,
        repeated=split.repeated,
        duplicates=split.duplicates,
        longest_row=_longest_row(split.parts, parts, packed),
        padding_share=padding_share(parts["train"].rows.lengths),
        parts={name: _part_report([part], split.groups.get(name)) for name, part in parts.items()},
        whole=_part_report(list(parts.values()), sum(split.groups.values()) if split.groups else None),
        understanding=understanding(parts.values(), dict(packed.unused)),
        fingerprint=fingerprint(rows),
    )
    return study_rows(rows, report)


def study_rows(rows: list[TokenRows], report: DataReport) -> StudyRows:
    """The rows of train, validation and test with what follows from them."""
    train, validation, test = rows
    return StudyRows(
        train,
        validation,
        test,
        report,
        facts=DataFacts.of(report),
        largest_id=max(int(part.ids.max()) for part in rows),
        longest=max(int(part.lengths.max()) for part in rows),
    )


def fingerprint(parts: list[TokenRows]) -> str:
    """SHA-256 of all token ids and labels in order, and of weights where there are some."""
    digest = hashlib.sha256()
    for rows in parts:
        arrays: list[npt.NDArray[Any]] = [rows.lengths, rows.ids, rows.labels]
        for array in [*arrays, rows.weights] if rows.weighted else arrays:
            digest.update(f"{len(array)}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def learned_tokens(labels: Ids) -> int:
    """How many labels are learned, counted in pieces so that memory stays flat."""
    return sum(int((labels[begin : begin + PIECE] != IGNORED).sum()) for begin in range(0, len(labels), PIECE))


def padding_share(lengths: Bounds, batch: int = DEFAULT_MICRO_BATCH) -> float:
    """Share of padding where batches of rows in a random order are padded to their longest."""
    order = np.random.default_rng(0).permutation(lengths)
    padded = sum(int(part.max()) * len(part) for part in np.split(order, range(batch, len(order), batch)))
    return round(1 - int(lengths.sum()) / padded, 4)


def _part_report(parts: list[Tokenised], groups: int | None) -> PartReport:
    lengths = np.concatenate([part.lengths for part in parts])
    labels = [part.rows.labels for part in parts]
    p50, p90, p99 = (int(value) for value in np.percentile(lengths, (50, 90, 99), method="inverted_cdf"))
    return PartReport(
        rows=sum(len(part.rows) for part in parts),
        tokens=sum(len(each) for each in labels),
        supervised_tokens=sum(map(learned_tokens, labels)),
        p50=p50,
        p90=p90,
        p99=p99,
        longest=int(lengths.max()),
        truncated=sum(part.truncated for part in parts),
        unsupervised=sum(part.unsupervised for part in parts),
        groups=groups,
    )


def understanding(parts: Collection[Tokenised], unused: dict[str, int]) -> Understanding:
    """What parts say beside what is learned of them; `unused` are the columns that their format does not read."""
    counts = TurnCounts()
    for part in parts:
        counts.add(part.turns)
    return Understanding(
        rows=sum(len(part.lengths) for part in parts),
        columns_unused=unused,
        turns=TurnsReport(**vars(counts)) if counts.turns else None,
        rows_plain=sum(part.plain for part in parts),
        rows_unended=sum(part.unended for part in parts),
        padding_tokens=sum(part.padding for part in parts),
    )


def _longest_row(numbers: Mapping[str, list[int]], parts: Mapping[str, Tokenised], packed: PackedRows) -> str:
    longest = {name: int(part.lengths.argmax()) for name, part in parts.items()}
    name = max(longest, key=lambda each: int(parts[each].lengths[longest[each]]))
    return packed.example(numbers[name][longest[name]]).origin


def _tell(touch: Callable[[float], None], before: int, total: int, rows: int) -> None:
    touch(0.5 + (before + rows) / (2 * total))


def _check_supervision(parts: dict[str, Tokenised], spec: DataSpec) -> None:
    lost = sum(part.unsupervised for part in parts.values())
    total = lost + sum(len(part.rows) for part in parts.values())
    if lost * 2 > total:
        raise DataError(
            f"{spec.called}: {lost} of {total} rows have nothing to learn within data.max_length = "
            f"{spec.max_length} tokens: raise it, or shorten the prompts"
        )
    for name, part in parts.items():
        if not part.rows:
            raise DataError(
                f"{spec.called}: no row of the {name} part has anything to learn within data.max_length = "
                f"{spec.max_length} tokens: raise it, or shorten the prompts"
            )
