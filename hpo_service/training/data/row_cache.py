"""Tokenised rows, made once on a node and read by all its trials and workers from the same pages of memory."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from hpo_service.domain.study.data_report import DataReport
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.training.data.fingerprint import WHERE, content_digest, stamp, unasked
from hpo_service.training.data.rows import PARTS, StudyRows, fingerprint, prepare_rows, study_rows
from hpo_service.training.data.tokens import ARRAYS, TokenRows
from hpo_service.training.files.atomic_folder import replace_folder
from hpo_service.training.files.node_cache import Progress, locked

# Part of every key: raise it when a change to reading, splitting or tokenising gives other rows, or to the files here.
REVISION = 2
# Fields of a study's data that do not decide which rows come of the same content; all others do.
UNDECISIVE = {
    **dict.fromkeys(WHERE, "the digest of the content speaks for it"),
    "pack_rows": "says how rows become batches",
}
# Libraries whose versions may turn the same text into other ids.
LIBRARIES = ("transformers", "tokenizers")
# Tokenised data sets a process holds at once: those of the studies a worker moves between.
MOST_HELD = 4
REPORT = "report.json"
REASON_CHARS = 200

log = logging.getLogger(__name__)


@dataclass
class RowCache:
    """The tokenised rows of studies: held by this process, else read from `folder`, else made and written there.

    A folder that cannot be written costs only the sharing: the rows are then made in memory.
    """

    folder: Path
    _held: dict[tuple[str, ...], StudyRows] = field(default_factory=dict)

    def rows(
        self,
        spec: DataSpec,
        tokenizer: PreTrainedTokenizerBase,
        tokenizer_hash: str,
        progress: Progress = lambda _message, _fraction: None,
    ) -> StudyRows:
        """The rows of a study, read again where a local file has changed since.

        Args:
            spec: the study's data.
            tokenizer: what turns text into ids.
            tokenizer_hash: tells it, with its chat template, from every other.
            progress: told how far tokenising is, and of waiting for another process that does it.

        Raises:
            DataError: the data cannot be used; the message names file, row or column.
        """
        key = (stamp(spec), tokenizer_hash, _recipe(spec))
        if key not in self._held:
            rows = self._shared(spec, tokenizer, tokenizer_hash, progress)
            for oldest in list(self._held)[: 1 - MOST_HELD]:
                del self._held[oldest]
            self._held[key] = rows
        return self._held[key]

    def _shared(
        self, spec: DataSpec, tokenizer: PreTrainedTokenizerBase, tokenizer_hash: str, progress: Progress
    ) -> StudyRows:
        def make(folder: Path | None) -> StudyRows:
            told = f"tokenising {spec.called}"
            return prepare_rows(spec, tokenizer, lambda fraction: progress(told, fraction), folder)

        target = self.folder / _key(content_digest(spec), tokenizer_hash, spec)
        rows, _ = _load(target, spec)
        if rows is not None:
            return rows
        try:
            with locked(target, progress):
                rows, damage = _load(target, spec)
                if rows is not None:
                    return rows
                if damage:
                    log.warning("tokenised rows in %s are damaged (%s) and made again", target, damage)
                rows = make(self.folder)
                replace_folder(target, partial(_write, rows))
        except OSError as error:
            log.warning("tokenised rows are made in memory, since %s cannot be used: %s", self.folder, error)
            return rows or make(None)
        # from the files rather than from memory, so that processes share their pages
        return _load(target, spec)[0] or rows


def _recipe(spec: DataSpec) -> str:
    """Everything in a spec that decides which rows come of the same content."""
    return spec.model_dump_json(exclude=set(UNDECISIVE) | unasked(spec))


def _key(content: str, tokenizer_hash: str, spec: DataSpec) -> str:
    versions = [version(name) for name in LIBRARIES]
    text = json.dumps([REVISION, content, tokenizer_hash, _recipe(spec), versions])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write(rows: StudyRows, folder: Path) -> None:
    for name in PARTS:
        part: TokenRows = getattr(rows, name)
        for kind in ARRAYS:
            np.save(folder / f"{name}-{kind}.npy", getattr(part, kind), allow_pickle=False)
        if part.weighted:
            np.save(folder / f"{name}-weights.npy", part.weights, allow_pickle=False)
    (folder / REPORT).write_text(rows.report.model_dump_json(indent=2) + "\n")


def _load(folder: Path, spec: DataSpec) -> tuple[StudyRows | None, str]:
    """The rows in a folder, or None; with it what is wrong with them, every byte compared, or nothing."""
    if not folder.exists():
        return None, ""
    try:
        report = DataReport.model_validate_json((folder / REPORT).read_text()).of_source(spec.called)
        parts = [_part(folder, name) for name in PARTS]
        if fingerprint(parts) != report.fingerprint:
            return None, "its content is not what was written"
        return study_rows(parts, report), ""
    except (OSError, ValueError, EOFError) as error:
        return None, " ".join(str(error).split())[:REASON_CHARS]


def _part(folder: Path, name: str) -> TokenRows:
    weights = folder / f"{name}-weights.npy"
    arrays = {kind: _mapped(folder / f"{name}-{kind}.npy") for kind in ARRAYS}
    return TokenRows(**arrays, weights=_mapped(weights) if weights.exists() else None)


def _mapped(path: Path) -> npt.NDArray[Any]:
    # Copy on write: torch wants arrays that may be written to, and pages stay shared as long as nobody does.
    array: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array.view(np.ndarray)
