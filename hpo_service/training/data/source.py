"""Where raw rows come from: local files and folders, hub data sets, and the data the project makes itself."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_service.domain.study.sources import BUILTIN, BUILTIN_DATA, DataFile, looks_local
from hpo_service.errors import DataError
from hpo_service.training.builtin.corpus import docstring_pairs

if TYPE_CHECKING:
    from datasets import Dataset

(STDLIB_DOCSTRINGS,) = BUILTIN_DATA


@dataclass(frozen=True)
class RawRow:
    """One row as it was found; `origin` names file and row for people."""

    origin: str
    fields: dict[str, Any]


def read_rows(source: str, subset: str | None = None, split: str | None = None) -> list[RawRow]:
    """Read every row of a local file, a folder of files, a hub data set or builtin data.

    Args:
        source: the name as a study file writes it.
        subset: configuration of a hub data set that has several.
        split: split of a hub data set; left out, `train`, or else its first.

    Raises:
        DataError: the source is missing, unreadable or empty; the message names it.
    """
    rows = list(_rows(source, subset, split))
    if not rows:
        raise DataError(f"{source} holds no rows")
    return rows


def local_files(source: str) -> list[Path] | None:
    """The data files that a source means, in the order in which they are read; None where it is not local.

    Raises:
        DataError: a path that is written like one does not exist, or its folder holds no data file.
    """
    if source.startswith(BUILTIN):
        return None
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix in READERS and each.is_file())
        if not files:
            raise DataError(f"{path} holds no data file; files must end in {', '.join(READERS)}")
        return files
    if path.is_file():
        return [path]
    if looks_local(source):
        raise DataError(f"{source} does not exist (looked in {Path.cwd()})")
    return None


def load_from_hub(name: str, subset: str | None, split: str | None) -> Dataset:
    """A hub data set, or the copy of it that this machine keeps.

    Raises:
        DataError: there is none, it is out of reach, or it has no such configuration or split.
    """
    from datasets import DatasetDict, load_dataset

    try:
        loaded = load_dataset(name, subset, split=split)
    # The library raises many unrelated types for a name that is wrong, private, or out of reach.
    except Exception as error:
        reason = " ".join(str(error).split())
        remedy = "; name one of them as data.subset" if "Config name is missing" in reason else ""
        raise DataError(
            f"data set {name} cannot be loaded, neither locally nor from the hub: {reason}{remedy}"
        ) from error
    if isinstance(loaded, DatasetDict):
        loaded = loaded["train"] if "train" in loaded else next(iter(loaded.values()))
    return loaded


def _rows(source: str, subset: str | None, split: str | None) -> Iterator[RawRow]:
    if source == STDLIB_DOCSTRINGS:
        yield from _numbered(source, iter(docstring_pairs()))
        return
    if source.startswith(BUILTIN):
        raise DataError(f"there is no builtin data {source}; the builtin data is {STDLIB_DOCSTRINGS}")
    files = local_files(source)
    if files is None:
        yield from _numbered(source, iter(load_from_hub(source, subset, split)))
        return
    for path in files:
        yield from _read_file(path)


def _read_file(path: Path) -> Iterator[RawRow]:
    reader = READERS.get(path.suffix)
    if reader is None:
        raise DataError(f"{path} has no known ending; files must end in {', '.join(READERS)}")
    try:
        yield from reader(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield RawRow(f"{path}, line {number}", _object(_parsed(line, f"{path}, line {number}"), path, number))


def _read_json(path: Path) -> Iterator[RawRow]:
    content = _parsed(path.read_text(encoding="utf-8-sig"), str(path))
    if not isinstance(content, list):
        raise DataError(f"{path} must hold a list of rows, not {_kind(content)}")
    for number, row in enumerate(content, start=1):
        yield RawRow(f"{path}, row {number}", _object(row, path, number))


def _read_csv(path: Path) -> Iterator[RawRow]:
    # Long texts are ordinary here; the module's own limit is 128 KiB a field.
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            for number, fields in enumerate(reader, start=1):
                if None in fields or None in fields.values():
                    expected = len(reader.fieldnames or ())
                    raise DataError(f"{path}, row {number} does not have {expected} fields as the header says")
                yield RawRow(f"{path}, row {number}", dict(fields))
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num} is not valid CSV: {error}") from error


def _read_parquet(path: Path) -> Iterator[RawRow]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        batches = ParquetFile(path).iter_batches()
        yield from _numbered(str(path), (row for batch in batches for row in batch.to_pylist()))
    except ArrowException as error:
        raise DataError(f"{path} is not a valid Parquet file: {' '.join(str(error).split())}") from error


READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    DataFile.JSONL: _read_jsonl,
    DataFile.JSON: _read_json,
    DataFile.CSV: _read_csv,
    DataFile.PARQUET: _read_parquet,
}
"""How each kind of file is read; plain endings find their row too."""


def _numbered(origin: str, rows: Iterator[dict[str, Any]]) -> Iterator[RawRow]:
    for number, fields in enumerate(rows, start=1):
        yield RawRow(f"{origin}, row {number}", fields)


def _parsed(text: str, origin: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{origin} is not valid JSON: {error.msg} at column {error.colno}") from error


def _object(row: Any, path: Path, number: int) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{path}, row {number} must be an object with named fields, not {_kind(row)}")
    return row


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
